-- Records as JSON, newest first. ARGV: state ('' for all), id before which they were made ('' for now), how many.
local key = ARGV[1] == '' and P .. 'all' or P .. 'state:' .. ARGV[1]
local from = ARGV[2] == '' and '+' or '(' .. ARGV[2]
local found = {}
for _, id in ipairs(redis.call('ZREVRANGEBYLEX', key, from, '-', 'LIMIT', 0, ARGV[3])) do
  found[#found + 1] = whole(id)
end
return found
