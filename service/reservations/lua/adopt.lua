-- adopt: a service begins its work. Nobody who waits has its ear yet: they keep their places and get
-- nothing until they are back.
-- Keys: queue
-- Args:
-- Returns: how many wait
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
