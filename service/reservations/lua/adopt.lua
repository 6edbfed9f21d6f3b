-- adopt: marks all waiting requests as not connected when a service starts. They keep their places and are not
-- served until their clients are back.
-- Keys: queue
-- Args:
-- Returns: the number of waiting requests
-- Events:
local requests = redis.call('HGETALL', KEYS[1])
for i = 1, #requests, 2 do
  local request = request_of(requests[i + 1])
  if request then
    request.attached = nil
    redis.call('HSET', KEYS[1], requests[i], cjson.encode(request))
  end
end
return #requests / 2
