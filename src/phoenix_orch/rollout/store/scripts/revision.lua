-- Keep a template under its hash and number it; forget the oldest that nothing refers to.
-- KEYS: record, templates, numbers, causes.  ARGV: revision, template, revisions kept.
-- Gives {number, template}.
local number = redis.call('ZSCORE', KEYS[3], ARGV[1])
if not number then
  local newest = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  number = string.format('%.0f', tonumber(newest[2] or '0') + 1)
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  redis.call('ZADD', KEYS[3], number, ARGV[1])
  local needed = {}
  local record = redis.call('HMGET', KEYS[1], 'wanted', 'status')
  if record[1] then
    local wanted, status = cjson.decode(record[1]), cjson.decode(record[2])
    for _, revision in ipairs({wanted.target, wanted.applied}) do needed[revision] = true end
    for _, field in ipairs({'stable', 'canary', 'previous'}) do
      if status[field] then needed[status[field]] = true end
    end
  end
  local oldest_kept = tonumber(number) - tonumber(ARGV[3])
  for _, revision in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', oldest_kept)) do
    if not needed[revision] then
      redis.call('HDEL', KEYS[2], revision)
      redis.call('HDEL', KEYS[4], revision)
      redis.call('ZREM', KEYS[3], revision)
    end
  end
end
return {number, redis.call('HGET', KEYS[2], ARGV[1])}
