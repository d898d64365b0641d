-- What workers left behind that died, and what is over for long enough. One worker at a time looks.
-- ARGV: lease, ms until the next look, most of each, worker.
if not redis.call('SET', P .. 'sweeper', ARGV[4], 'NX', 'PX', ARGV[2]) then return end
local now, lease, most = now_ms(), tonumber(ARGV[1]), ARGV[3]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'beat', '-inf', now - lease, 'LIMIT', 0, most)) do
  local r = known(id)
  if r.state then push(id, r.priority, r.due) else redis.call('ZREM', P .. 'beat', id) end
end
for _, kind in ipairs(redis.call('SMEMBERS', P .. 'blocked')) do
  wake(kind)
  if redis.call('ZCARD', P .. 'blocked:' .. kind) == 0 then redis.call('SREM', P .. 'blocked', kind) end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'forget', '-inf', now, 'LIMIT', 0, most)) do
  redis.call('ZREM', P .. 'state:' .. (redis.call('HGET', record(id), 'state') or ''), id)
  redis.call('ZREM', P .. 'all', id)
  redis.call('ZREM', P .. 'forget', id)
  redis.call('DEL', record(id), P .. 'log:' .. id)
end
