-- Put before every script: one rollout as {version, wanted, status, {command, ...}}, or false.
local function read_record(record, commands)
  local fields = redis.call('HMGET', record, 'version', 'wanted', 'status')
  if not fields[1] then return false end
  return {fields[1], fields[2], fields[3], redis.call('LRANGE', commands, 0, -1)}
end

-- Tell whoever watches. It is a hint only: being refused it must not break a write.
local function announce(channel, name)
  redis.pcall('PUBLISH', channel, name)
end
