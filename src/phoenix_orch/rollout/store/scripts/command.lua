-- Add a command, once.
-- KEYS: record, commands.  ARGV: channel, name, id of the command, the command.
-- Gives 0 when there is no such rollout.
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 0 end
for _, id in ipairs(cjson.decode(status).handled) do
  if id == ARGV[3] then return 1 end
end
for _, waiting in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  if cjson.decode(waiting).id == ARGV[3] then return 1 end
end
redis.call('RPUSH', KEYS[2], ARGV[4])
redis.call('HINCRBY', KEYS[1], 'version', 1)
announce(ARGV[1], ARGV[2])
return 1
