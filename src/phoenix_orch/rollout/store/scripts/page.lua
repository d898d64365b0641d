-- The named rollouts at one moment, each with how often a verdict was put.
-- ARGV: prefix of records, of command lists, of verdicts, name...
-- Gives {{name, record, count or false}, ...}; one that is not there is left out.
local found = {}
for i = 4, #ARGV do
  local record = read_record(ARGV[1] .. ARGV[i], ARGV[2] .. ARGV[i])
  if record then found[#found + 1] = {ARGV[i], record, redis.call('HGET', ARGV[3] .. ARGV[i], 'puts')} end
end
return found
