-- Set fields of a hash that belongs to a rollout, all at once.
-- KEYS: record, hash.  ARGV: channel, name, field, value...
-- Gives 0 when there is no such rollout.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
announce(ARGV[1], ARGV[2])
return 1
