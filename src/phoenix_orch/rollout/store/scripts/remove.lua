-- Forget a rollout and all that is kept with it; only its last version is remembered.
-- KEYS: set of names, record, versions of removed rollouts, everything else of it...
-- ARGV: channel, name.
local stored = redis.call('HGET', KEYS[2], 'version')
if stored then
  redis.call('HSET', KEYS[3], ARGV[2], stored)
  redis.call('SREM', KEYS[1], ARGV[2])
end
redis.call('DEL', KEYS[2], unpack(KEYS, 4))
if stored then announce(ARGV[1], ARGV[2]) end
return 1
