-- A worker fills its free slots. ARGV: worker, lease, then for each priority its name and how many are free.
-- Gives {ms until more is due, or -1, the records that it has to run, as JSON, {kind, state} of each task
-- that ended just now because its worker had died too often or while it was cancelled}.
local MOST = 200
local worker, lease = ARGV[1], tonumber(ARGV[2])
local now = now_ms()
local taken, ended, wait = {}, {}, -1

-- What ends a task whose worker has died: a state and a text, or nothing, and it runs once more.
local function fatal(r, deaths)
  if r.cancelling ~= '' then
    return 'cancelled', 'cancelled by ' .. r.cancelling .. '; its worker died while it cleaned up'
  end
  if deaths > tonumber(r.deaths_allowed) then
    return 'dead', 'its worker died ' .. deaths .. ' times while it ran'
  end
end

local function block(id, r)
  redis.call('ZADD', P .. 'blocked:' .. r.kind, r.due, id)
  redis.call('SADD', P .. 'blocked', r.kind)
  if r.state ~= 'queued' then enter(id, r.state, 'queued') end
end

-- Whether the worker has the task now.
local function claim(id)
  local r = known(id)
  if not r.state or ENDED[r.state] then return false end
  local attempt, deaths = tonumber(r.attempt), tonumber(r.deaths)
  if r.state == 'running' then
    local beat = redis.call('ZSCORE', P .. 'beat', id)
    if beat and now - beat < lease then return false end -- its worker was only slow
    deaths = deaths + 1
    local state, text = fatal(r, deaths)
    if state then
      redis.call('HSET', record(id), 'deaths', deaths, 'error', text)
      finish(id, r, state, text)
      ended[#ended + 1] = {r.kind, state}
      return false
    end
  else
    if limited(r) then
      if not room(r.kind, r) then
        block(id, r)
        return false
      end
      redis.call('SADD', P .. 'slots:' .. r.kind, id)
      redis.call('SADD', P .. 'slots:' .. r.kind .. '@' .. r.target, id)
    end
    attempt = attempt + 1
  end
  redis.call('HSET', record(id), 'worker', worker, 'started', number(now), 'progress', '0', 'text', '',
    'attempt', attempt, 'deaths', deaths, 'fence', tonumber(r.fence) + 1)
  redis.call('ZADD', P .. 'beat', now, id)
  enter(id, r.state, 'running', '')
  taken[#taken + 1] = whole(id)
  return true
end

for i = 3, #ARGV, 2 do
  local queue, free, looked = P .. 'queue:' .. ARGV[i], tonumber(ARGV[i + 1]), 0
  while free > 0 and looked < MOST do
    local due = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, free)
    if #due == 0 then break end
    redis.call('ZREM', queue, unpack(due))
    looked = looked + #due
    for _, id in ipairs(due) do
      if claim(id) then free = free - 1 end
    end
  end
  local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  if first[1] and free > 0 then
    local left = math.max(0, tonumber(first[2]) - now)
    wait = wait < 0 and left or math.min(wait, left)
  end
end
return {wait, taken, ended}
