-- KEYS: templates, numbers. Gives {{revision, number, template}, ...} by number.
local flat = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
local found = {}
for i = 1, #flat, 2 do
  found[#found + 1] = {flat[i], flat[i + 1], redis.call('HGET', KEYS[1], flat[i])}
end
return found
