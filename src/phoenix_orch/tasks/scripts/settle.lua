-- What an attempt ends with. ARGV: id, fence, state, due ('' when it is over), text, field, value...
-- Gives 1, or 0 when another claim has the task by now.
local id, state = ARGV[1], ARGV[3]
local r = known(id)
if r.state == state and r.fence == ARGV[2] then return 1 end -- written before; the answer was lost
if r.state ~= 'running' or r.fence ~= ARGV[2] then return 0 end
if #ARGV > 5 then redis.call('HSET', record(id), unpack(ARGV, 6)) end
if ENDED[state] then
  finish(id, r, state, ARGV[5])
  return 1
end
redis.call('HSET', record(id), 'due', ARGV[4])
enter(id, 'running', state, ARGV[5])
push(id, r.priority, ARGV[4])
release(id, r)
return 1
