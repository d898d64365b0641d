-- Count the slots of a schedule from an earlier moment, if nobody has taken one meanwhile.
-- ARGV: name, the slot before, moment. Gives {'LATE'} or {'DONE'}.
local key = P .. 'schedule:' .. ARGV[1]
if redis.call('HGET', key, 'last') ~= ARGV[2] then return {'LATE'} end
redis.call('HSET', key, 'last', ARGV[3])
return {'DONE'}
