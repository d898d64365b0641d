-- All rollouts at one moment, or the named ones.
-- KEYS: set of names.  ARGV: prefix of records, prefix of command lists, name...
local names = {unpack(ARGV, 3)}
if #names == 0 then names = redis.call('SMEMBERS', KEYS[1]) end
local found = {}
for _, name in ipairs(names) do
  local record = read_record(ARGV[1] .. name, ARGV[2] .. name)
  if record then found[#found + 1] = {name, record} end
end
return found
