-- heartbeat: says of runs that their processes live. It makes no event, and revives nothing.
-- Keys: reservations
-- Args: host id...
-- Returns: how many of them there are
-- Events:
local known = 0
for position = 2, #ARGV do
  local text = redis.call('HGET', KEYS[1], ARGV[position])
  if text then
    local record = cjson.decode(text)
    record.heartbeat_ms = now_ms
    redis.call('HSET', KEYS[1], record.id, cjson.encode(record))
    known = known + 1
  end
end
return known
