-- What a running task says. ARGV: id, fence, progress ('' for none), text, line...
-- Gives 1, or 0 when another claim has the task by now.
local id = ARGV[1]
local r = redis.call('HMGET', record(id), 'state', 'fence')
if r[1] ~= 'running' or r[2] ~= ARGV[2] then return 0 end
if ARGV[3] ~= '' then
  redis.call('HSET', record(id), 'progress', ARGV[3], 'text', ARGV[4])
  log(id, 'progress', 'progress', ARGV[3], 'text', ARGV[4])
end
for i = 5, #ARGV do log(id, 'log', 'text', ARGV[i]) end
return 1
