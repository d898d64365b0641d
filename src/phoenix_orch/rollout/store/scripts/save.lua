-- Write one decision: status, handled commands, events and an ended release, or nothing of it.
-- KEYS: record, commands, events, history.
-- ARGV: channel, name, expected version, status, events kept, releases kept,
--       number of the release ('' for none), the release, event...
-- Gives {1, record} or {0, the version that is stored}. The record is written last: whatever a server
-- may refuse (a key of another type, a command that is not allowed) is refused before that.
local stored = redis.call('HGET', KEYS[1], 'version') or '0'
if stored == '0' or stored ~= ARGV[3] then return {0, stored} end
local handled = {}
for _, id in ipairs(cjson.decode(ARGV[4]).handled) do handled[id] = true end
local waiting = redis.call('LRANGE', KEYS[2], 0, -1)
for i = 9, #ARGV do
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*', 'json', ARGV[i])
end
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[4], ARGV[7], ARGV[8])
  local numbers = redis.call('HKEYS', KEYS[4])
  local kept = tonumber(ARGV[6])
  if #numbers > kept then
    table.sort(numbers, function(a, b) return tonumber(a) > tonumber(b) end)
    for i = kept + 1, #numbers do redis.call('HDEL', KEYS[4], numbers[i]) end
  end
end
for _, command in ipairs(waiting) do
  if handled[cjson.decode(command).id] then redis.call('LREM', KEYS[2], 1, command) end
end
redis.call('HSET', KEYS[1], 'status', ARGV[4], 'version', string.format('%.0f', tonumber(stored) + 1))
announce(ARGV[1], ARGV[2])
return {1, read_record(KEYS[1], KEYS[2])}
