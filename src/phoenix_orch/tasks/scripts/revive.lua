-- ARGV: id. Gives {'NONE'}, {'STATE', state}, {'BUSY', id of the active one} or {'DONE'}.
local id = ARGV[1]
local r = known(id)
if not r.state then return {'NONE'} end
if not ENDED[r.state] or r.state == 'succeeded' then return {'STATE', r.state} end
local active = redis.call('GET', P .. 'key:' .. r.key)
if active then return {'BUSY', active} end
local now = now_ms()
redis.call('SET', P .. 'key:' .. r.key, id)
redis.call('HSET', record(id), 'due', number(now), 'attempt', '0', 'deaths', '0', 'progress', '0',
  'text', '', 'error', '', 'result', '', 'ended', '', 'cancelling', '')
redis.call('ZREM', P .. 'forget', id)
enter(id, r.state, 'queued')
push(id, r.priority, now)
return {'DONE'}
