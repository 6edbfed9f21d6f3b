-- heartbeat: says of runs that their processes live. It makes no event, and revives nothing.
-- Keys: reservations
-- Args: id...
-- Returns: how many of them there are
-- Events:
local known = 0
for _, id in ipairs(ARGV) do
  local text = redis.call('HGET', KEYS[1], id)
  local record = text and record_of(text)
  if record then
    record.heartbeat_ms = now_ms
    redis.call('HSET', KEYS[1], record.id, cjson.encode(record))
    known = known + 1
  end
end
return known
