-- ARGV: id, who. Gives {'NONE'}, {'OVER', state}, {'RUNNING'} or {'DONE'}.
local id, by = ARGV[1], ARGV[2]
local r = known(id)
if not r.state then return {'NONE'} end
if ENDED[r.state] then return {'OVER', r.state} end
if r.state == 'running' then
  if r.cancelling == '' then redis.call('HSET', record(id), 'cancelling', by) end
  redis.call('PUBLISH', P .. 'cancel', id)
  return {'RUNNING'}
end
redis.call('HSET', record(id), 'error', 'cancelled by ' .. by)
finish(id, r, 'cancelled', 'cancelled by ' .. by)
return {'DONE'}
