-- ARGV: id, grace. Gives {'NONE'}, {'STATE', state}, {'BUSY', id of the active one} or {'DONE', priority}.
local id = ARGV[1]
local r = redis.call('HMGET', record(id), 'state', 'key', 'priority')
if not r[1] then return {'NONE'} end
if not ENDED[r[1]] or r[1] == 'succeeded' then return {'STATE', r[1]} end
local active = redis.call('GET', P .. 'key:' .. r[2])
if active then return {'BUSY', active} end
local now = now_ms()
redis.call('SET', P .. 'key:' .. r[2], id)
redis.call('HSET', record(id), 'due', number(now), 'attempt', '0', 'deaths', '0', 'progress', '0',
  'text', '', 'error', '', 'result', '', 'ended', '', 'cancelling', '')
redis.call('ZREM', P .. 'forget', id)
redis.call('ZADD', P .. 'waiting', now + tonumber(ARGV[2]), id)
enter(id, r[1], 'queued')
return {'DONE', r[3]}
