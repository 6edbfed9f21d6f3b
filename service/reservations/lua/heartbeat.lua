-- heartbeat: records that the processes of these runs are alive. It publishes no event and restores no reservation.
-- Keys: reservations
-- Args: id...
-- Returns: the number of these runs that exist
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
