-- A worker takes a task. ARGV: id, worker, lease.
-- Gives {'GO', record as JSON}, {'HELD', ms until its lease ends, priority}, {'BLOCKED'}, or
-- {'GONE', who may run now, kind and state where it ended just now}.
local id, worker, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = now_ms()
local r = redis.call('HMGET', record(id), 'state', 'kind', 'target', 'limit', 'limit_per_target',
  'deaths', 'deaths_allowed', 'cancelling', 'priority')
local state = r[1]
if not state or ENDED[state] then return {'GONE', {}} end
if state == 'running' then
  local beat = redis.call('ZSCORE', P .. 'beat', id)
  if beat and now - beat < lease then return {'HELD', lease - (now - beat), r[9]} end
  local deaths = redis.call('HINCRBY', record(id), 'deaths', 1)
  if r[8] ~= '' then
    local text = 'cancelled by ' .. r[8] .. '; its worker died while it cleaned up'
    redis.call('HSET', record(id), 'error', text)
    return {'GONE', finish(id, state, 'cancelled', text), r[2], 'cancelled'}
  end
  if deaths > tonumber(r[7]) then
    local text = 'its worker died ' .. deaths .. ' times while it ran'
    redis.call('HSET', record(id), 'error', text)
    return {'GONE', finish(id, state, 'dead', text), r[2], 'dead'}
  end
else
  redis.call('ZREM', P .. 'waiting', id)
  if r[4] ~= '' or r[5] ~= '' then
    if not room(r[2], r[3], r[4], r[5]) then
      redis.call('ZADD', P .. 'blocked:' .. r[2], now, id)
      redis.call('SADD', P .. 'blocked', r[2])
      if state ~= 'queued' then enter(id, state, 'queued') end
      return {'BLOCKED'}
    end
    redis.call('SADD', P .. 'slots:' .. r[2], id)
    redis.call('SADD', P .. 'slots:' .. r[2] .. '@' .. r[3], id)
  end
  redis.call('HINCRBY', record(id), 'attempt', 1)
end
redis.call('HINCRBY', record(id), 'fence', 1)
redis.call('HSET', record(id), 'worker', worker, 'started', number(now), 'progress', '0', 'text', '')
redis.call('ZADD', P .. 'beat', now, id)
enter(id, state, 'running', '')
return {'GO', whole(id)}
