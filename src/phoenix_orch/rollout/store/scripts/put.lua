-- Create (expected version 0) or replace what is wanted.
-- KEYS: set of names, record, commands, versions of removed rollouts.
-- ARGV: channel, name, expected version, wanted, status of a new one.
-- Gives {1, record} or {0, the version that is stored}.
local stored = redis.call('HGET', KEYS[2], 'version') or '0'
if stored ~= ARGV[3] then return {0, stored} end
if stored == '0' then
  -- Versions go on where a removed rollout of this name stopped: its writers must not win here.
  stored = redis.call('HGET', KEYS[4], ARGV[2]) or '0'
  redis.call('HSET', KEYS[2], 'status', ARGV[5])
  redis.call('SADD', KEYS[1], ARGV[2])
  redis.call('HDEL', KEYS[4], ARGV[2])
end
redis.call('HSET', KEYS[2], 'wanted', ARGV[4], 'version', string.format('%.0f', tonumber(stored) + 1))
announce(ARGV[1], ARGV[2])
return {1, read_record(KEYS[2], KEYS[3])}
