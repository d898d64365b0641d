-- Keep why a revision was latched: the first word of each release stays.
-- KEYS: record, causes.  ARGV: channel, name, revision, cause.
-- A value is the number of the release, a line end, and the cause. Gives 0 without such a rollout.
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 0 end
local release = string.format('%.0f', cjson.decode(status).release)
local told = redis.call('HGET', KEYS[2], ARGV[3])
if told and string.match(told, '^%d+') == release then return 1 end
redis.call('HSET', KEYS[2], ARGV[3], release .. '\n' .. ARGV[4])
announce(ARGV[1], ARGV[2])
return 1
