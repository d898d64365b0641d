-- What an attempt ends with. ARGV: id, fence, state, due ('' when it is over), grace, text, field, value...
-- Gives {1, who may run now}, or {0} when another claim has the task by now.
local id = ARGV[1]
local r = redis.call('HMGET', record(id), 'state', 'fence')
if r[1] == ARGV[3] and r[2] == ARGV[2] then return {1, {}} end -- written before; the answer was lost
if r[1] ~= 'running' or r[2] ~= ARGV[2] then return {0} end
if #ARGV > 6 then redis.call('HSET', record(id), unpack(ARGV, 7)) end
if ENDED[ARGV[3]] then return {1, finish(id, 'running', ARGV[3], ARGV[6])} end
redis.call('HSET', record(id), 'due', ARGV[4])
redis.call('ZADD', P .. 'waiting', tonumber(ARGV[4]) + tonumber(ARGV[5]), id)
enter(id, 'running', ARGV[3], ARGV[6])
return {1, release(id)}
