-- Keep a verdict with the state it came from, never an older one over a newer one: who was stopped for a
-- while, and goes on, is not the one who judges now.
-- KEYS: record, verdict.
-- ARGV: channel, name, time of the verdict (microseconds), '1' where the clock was set back, verdict, state.
-- Gives 0 without such a rollout, 1 when it was written, 2 when a newer one is there.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local stored = redis.call('HGET', KEYS[2], 'at')
if stored and ARGV[4] ~= '1' and tonumber(stored) > tonumber(ARGV[3]) then return 2 end
redis.call('HSET', KEYS[2], 'at', ARGV[3], 'verdict', ARGV[5], 'state', ARGV[6])
redis.call('HINCRBY', KEYS[2], 'puts', 1)
announce(ARGV[1], ARGV[2])
return 1
