-- Shared by all scripts. KEYS[1]: the prefix of every key. Times are milliseconds since 1970 by the clock of
-- the server, so that workers whose clocks differ agree.
local P = KEYS[1]
local LOG = 10000
local ENDED = {succeeded = true, failed = true, cancelled = true, dead = true}
-- Fields of a record that scripts look at.
local KNOWN = {'state', 'kind', 'target', 'key', 'priority', 'due', 'keep', 'limit', 'limit_per_target',
  'attempt', 'deaths', 'deaths_allowed', 'fence', 'cancelling'}

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function number(value) return string.format('%.0f', value) end

local function record(id) return P .. 'record:' .. id end

-- What scripts have to know of a task, by name; '' for what is not there, and no state where there is no such task.
local function known(id)
  local values, found = redis.call('HMGET', record(id), unpack(KNOWN)), {}
  for i, name in ipairs(KNOWN) do found[name] = values[i] or (name ~= 'state' and '') end
  return found
end

-- The record as one text, which a client takes apart far quicker than a reply of many parts.
local function whole(id)
  local parts, found = redis.call('HGETALL', record(id)), {}
  for i = 1, #parts, 2 do found[parts[i]] = parts[i + 1] end
  if #parts > 0 then found.id = id end -- also where the record itself does not say it
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

-- Let a task wait in its queue until `at`. Workers hear of it when it is the next one.
local function push(id, priority, at)
  local queue = P .. 'queue:' .. priority
  redis.call('ZADD', queue, at, id)
  if redis.call('ZRANGE', queue, 0, 0)[1] == id then redis.call('PUBLISH', P .. 'due', priority) end
end

local function limited(r) return r.limit ~= '' or r.limit_per_target ~= '' end

-- Whether another task of the kind may run, for this target.
local function room(kind, r)
  if r.limit ~= '' and redis.call('SCARD', P .. 'slots:' .. kind) >= tonumber(r.limit) then return false end
  local at = P .. 'slots:' .. kind .. '@' .. r.target
  return r.limit_per_target == '' or redis.call('SCARD', at) < tonumber(r.limit_per_target)
end

-- The first of those that wait for room, and now has it, may run.
local function wake(kind)
  local key = P .. 'blocked:' .. kind
  for _, id in ipairs(redis.call('ZRANGE', key, 0, 199)) do
    local r = known(id)
    if not r.state or ENDED[r.state] or r.state == 'running' then
      redis.call('ZREM', key, id)
    elseif room(kind, r) then
      redis.call('ZREM', key, id)
      push(id, r.priority, r.due)
      return
    end
  end
end

-- A task that ran does so no longer: its lease and its place are free.
local function release(id, r)
  redis.call('ZREM', P .. 'beat', id)
  if not limited(r) then return end
  redis.call('SREM', P .. 'slots:' .. r.kind, id)
  redis.call('SREM', P .. 'slots:' .. r.kind .. '@' .. r.target, id)
  wake(r.kind)
end

-- A task is over: its key is free, and it is forgotten after its time. `r`: what was known of it.
local function finish(id, r, new, text)
  local now, key = now_ms(), P .. 'key:' .. r.key
  redis.call('HSET', record(id), 'ended', number(now), 'cancelling', '')
  enter(id, r.state, new, text)
  redis.call('ZREM', P .. 'queue:' .. r.priority, id)
  if limited(r) then redis.call('ZREM', P .. 'blocked:' .. r.kind, id) end
  if redis.call('GET', key) == id then redis.call('DEL', key) end
  redis.call('ZADD', P .. 'forget', now + tonumber(r.keep), id)
  release(id, r)
end

-- Put a new task in, unless one with its key is active. Gives {1, its id} or {0, the id of the other}.
-- `from`: index in ARGV of: id, key, state, due, priority, field, value...
local function create(from)
  local id, key, state, due, priority = ARGV[from], ARGV[from + 1], ARGV[from + 2], ARGV[from + 3], ARGV[from + 4]
  local active = redis.call('GET', P .. 'key:' .. key)
  if active then return {0, active} end
  if state == 'queued' then due = number(math.min(due, now_ms())) end -- whatever the clock of who wants it
  redis.call('SET', P .. 'key:' .. key, id)
  redis.call('HSET', record(id), 'key', key, 'due', due, 'priority', priority, unpack(ARGV, from + 5))
  redis.call('ZADD', P .. 'all', 0, id)
  push(id, priority, due)
  enter(id, nil, state)
  return {1, id}
end
