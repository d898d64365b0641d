-- ARGV: id, who. Gives {'NONE'}, {'OVER', state}, {'RUNNING'} or {'DONE', who may run now}.
local id, by = ARGV[1], ARGV[2]
local state = redis.call('HGET', record(id), 'state')
if not state then return {'NONE'} end
if ENDED[state] then return {'OVER', state} end
if state == 'running' then
  redis.call('HSETNX', record(id), 'cancelling', '')
  if redis.call('HGET', record(id), 'cancelling') == '' then
    redis.call('HSET', record(id), 'cancelling', by)
  end
  redis.call('PUBLISH', P .. 'cancel', id)
  return {'RUNNING'}
end
redis.call('HSET', record(id), 'error', 'cancelled by ' .. by)
return {'DONE', finish(id, state, 'cancelled', 'cancelled by ' .. by)}
