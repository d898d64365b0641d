-- Append entries to a capped log. One that is among the newest is there already: a call whose answer
-- was lost may be repeated.
-- KEYS: record, log.  ARGV: channel ('' to tell nobody), name, entries kept, entry...
-- Gives 0 when there is no such rollout.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local known = {}
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 16 + #ARGV)) do
  known[entry[2][2]] = true
end
for i = 4, #ARGV do
  if not known[ARGV[i]] then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'json', ARGV[i])
  end
end
if ARGV[1] ~= '' then announce(ARGV[1], ARGV[2]) end
return 1
