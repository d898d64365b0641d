-- What should be on its way, and may have been lost. One worker does it at a time.
-- ARGV: lease, grace, most of each, worker. Gives pairs of id and priority.
if not redis.call('SET', P .. 'sweeper', ARGV[4], 'NX', 'PX', ARGV[2]) then return {} end
local now, lease, grace, most = now_ms(), tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local found = {}
local function add(id)
  local priority = redis.call('HGET', record(id), 'priority')
  if priority then found[#found + 1] = {id, priority} end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'waiting', '-inf', now, 'LIMIT', 0, most)) do
  redis.call('ZADD', P .. 'waiting', now + grace, id)
  add(id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'beat', '-inf', now - lease, 'LIMIT', 0, most)) do
  add(id)
end
for _, kind in ipairs(redis.call('SMEMBERS', P .. 'blocked')) do
  local woken = wake(kind)
  if woken[1] then found[#found + 1] = woken end
  if redis.call('ZCARD', P .. 'blocked:' .. kind) == 0 then redis.call('SREM', P .. 'blocked', kind) end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'forget', '-inf', now, 'LIMIT', 0, most)) do
  redis.call('ZREM', P .. 'state:' .. (redis.call('HGET', record(id), 'state') or ''), id)
  redis.call('ZREM', P .. 'all', id)
  redis.call('ZREM', P .. 'forget', id)
  redis.call('DEL', record(id), P .. 'log:' .. id)
end
return found
