-- settle: stores the result of one attempt to deliver a notice, and whether it is finished or will be retried.
-- Keys: sequence notices deliveries progress retries last_delivered deadletters
-- Args: host consumer_group entry progress retry_ms delivered dead delivery...
-- Returns: now_ms
-- Events: notice.attempted
local sequence, notices, deliveries, progress = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local retries, last_delivered, deadletters = KEYS[5], KEYS[6], KEYS[7]
local host, consumer_group, entry, tried, retry_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local delivered, dead = cjson.decode(ARGV[6]), cjson.decode(ARGV[7])
for position = 8, #ARGV do
  local data = splice({time = now()}, ARGV[position])
  append_event({deliveries}, host, next_id(sequence), 'canhazgpu.notice.attempted',
    'notice/' .. cjson.decode(ARGV[position]).notice, data)
end
for field, notice in pairs(delivered) do
  if notice == '' then redis.call('HDEL', last_delivered, field) else redis.call('HSETNX', last_delivered, field, notice) end
end
for _, letter in ipairs(dead) do
  redis.call('XADD', deadletters, 'MAXLEN', '~', 10000, '*', 'time', now(), unpack(letter))
end
if retry_ms >= 0 then
  redis.call('HSET', progress, entry, tried)
  redis.call('ZADD', retries, string.format('%.0f', now_ms + retry_ms), entry)
else
  redis.call('HDEL', progress, entry)
  redis.call('ZREM', retries, entry)
  redis.call('XACK', notices, consumer_group, entry)
end
return now_ms
