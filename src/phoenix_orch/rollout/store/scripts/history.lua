-- KEYS: history.  ARGV: how many.  Gives {{number, release}, ...}, newest first.
local numbers = redis.call('HKEYS', KEYS[1])
table.sort(numbers, function(a, b) return tonumber(a) > tonumber(b) end)
local found = {}
for i = 1, math.min(#numbers, tonumber(ARGV[1])) do
  found[i] = {numbers[i], redis.call('HGET', KEYS[1], numbers[i])}
end
return found
