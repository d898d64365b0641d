-- A worker lives and still runs these. ARGV: id, fence, id, fence...
-- Gives id and why ('cancel', 'lost'), for each that it has to stop.
local now = now_ms()
local stop = {}
for i = 1, #ARGV, 2 do
  local r = redis.call('HMGET', record(ARGV[i]), 'state', 'fence', 'cancelling')
  if r[1] ~= 'running' or r[2] ~= ARGV[i + 1] then
    stop[#stop + 1] = {ARGV[i], 'lost'}
  else
    redis.call('ZADD', P .. 'beat', now, ARGV[i])
    if r[3] and r[3] ~= '' then stop[#stop + 1] = {ARGV[i], 'cancel'} end
  end
end
return stop
