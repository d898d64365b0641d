-- Shared by all scripts. KEYS[1]: the prefix of every key. Times are milliseconds since 1970 by the clock of
-- the server, so that workers whose clocks differ agree.
local P = KEYS[1]
local LOG = 10000
local ENDED = {succeeded = true, failed = true, cancelled = true, dead = true}

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function number(value) return string.format('%.0f', value) end

local function record(id) return P .. 'record:' .. id end

-- The record as one text, which a client takes apart far quicker than a reply of many parts.
local function whole(id)
  local parts, found = redis.call('HGETALL', record(id)), {}
  for i = 1, #parts, 2 do found[parts[i]] = parts[i + 1] end
  return cjson.encode(found)
end

local function log(id, kind, ...)
  redis.call('XADD', P .. 'log:' .. id, 'MAXLEN', '~', LOG, '*', 'kind', kind, ...)
end

-- Move a task to another state: its record, the index of each state, and what is told of it.
local function enter(id, old, new, text)
  if old ~= new then
    if old then redis.call('ZREM', P .. 'state:' .. old, id) end
    redis.call('ZADD', P .. 'state:' .. new, 0, id)
  end
  redis.call('HSET', record(id), 'state', new)
  log(id, 'state', 'state', new, 'text', text or '')
end

-- Whether another task of the kind may run, for this target.
local function room(kind, target, limit, per_target)
  if limit ~= '' and redis.call('SCARD', P .. 'slots:' .. kind) >= tonumber(limit) then return false end
  local at = P .. 'slots:' .. kind .. '@' .. target
  return per_target == '' or redis.call('SCARD', at) < tonumber(per_target)
end

-- The first of those that wait for room and now has it: {id, priority}, or {}.
local function wake(kind)
  local key = P .. 'blocked:' .. kind
  for _, id in ipairs(redis.call('ZRANGE', key, 0, 199)) do
    local r = redis.call('HMGET', record(id), 'state', 'target', 'limit', 'limit_per_target', 'priority')
    if not r[1] or ENDED[r[1]] or r[1] == 'running' then
      redis.call('ZREM', key, id)
    elseif room(kind, r[2], r[3], r[4]) then
      redis.call('ZREM', key, id)
      redis.call('ZADD', P .. 'waiting', now_ms(), id)
      return {id, r[5]}
    end
  end
  return {}
end

-- A task that ran does so no longer: its lease and its place are free. Gives who may run now.
local function release(id)
  redis.call('ZREM', P .. 'beat', id)
  local r = redis.call('HMGET', record(id), 'kind', 'target', 'limit', 'limit_per_target')
  if r[3] == '' and r[4] == '' then return {} end
  redis.call('SREM', P .. 'slots:' .. r[1], id)
  redis.call('SREM', P .. 'slots:' .. r[1] .. '@' .. r[2], id)
  return wake(r[1])
end

-- A task is over: its key is free, and it is forgotten after its time. Gives who may run now.
local function finish(id, old, new, text)
  local now = now_ms()
  local r = redis.call('HMGET', record(id), 'key', 'keep', 'kind')
  redis.call('HSET', record(id), 'ended', number(now), 'cancelling', '')
  enter(id, old, new, text)
  redis.call('ZREM', P .. 'waiting', id)
  redis.call('ZREM', P .. 'blocked:' .. r[3], id)
  if redis.call('GET', P .. 'key:' .. r[1]) == id then redis.call('DEL', P .. 'key:' .. r[1]) end
  redis.call('ZADD', P .. 'forget', now + tonumber(r[2]), id)
  return release(id)
end

-- Put a new task in, unless one with its key is active. Gives {1, its id} or {0, the id of the other}.
-- `from`: index in ARGV of: id, key, state, due, time between due and looking after it, field, value...
local function create(from)
  local id, key, state, due, grace = ARGV[from], ARGV[from + 1], ARGV[from + 2], ARGV[from + 3], ARGV[from + 4]
  local active = redis.call('GET', P .. 'key:' .. key)
  if active then return {0, active} end
  redis.call('SET', P .. 'key:' .. key, id)
  redis.call('HSET', record(id), 'key', key, 'due', due, unpack(ARGV, from + 5))
  redis.call('ZADD', P .. 'all', 0, id)
  redis.call('ZADD', P .. 'waiting', tonumber(due) + tonumber(grace), id)
  enter(id, nil, state)
  return {1, id}
end
