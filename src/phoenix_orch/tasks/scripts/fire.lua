-- One slot of a schedule: whoever comes first has it.
-- ARGV: name, the slot before ('' for none), slot, missed, id, key, state, due, priority, field, value...
-- Gives {'LATE'}, {'SKIPPED', id of the run before} or {'DONE', id}.
local key = P .. 'schedule:' .. ARGV[1]
local r = redis.call('HMGET', key, 'last', 'paused')
if (r[1] or '') ~= ARGV[2] or r[2] == '1' then return {'LATE'} end
redis.call('HSET', key, 'last', ARGV[3])
redis.call('HINCRBY', key, 'missed', ARGV[4])
local made = create(5)
if made[1] == 0 then
  redis.call('HINCRBY', key, 'skipped', 1)
  return {'SKIPPED', made[2]}
end
redis.call('HINCRBY', key, 'runs', 1)
redis.call('HSET', key, 'task', made[2], 'slot', ARGV[3])
return {'DONE', made[2]}
