-- drain: excludes GPUs from allocation, or includes them again. Existing reservations continue.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules request
-- Returns: JSON: code (done, missing, again), changed, missing, granted
-- Events: gpu.drained gpu.undrained reservation.created
local host, request = open_host(10), cjson.decode(ARGV[3])
local before = redis.call('GET', KEYS[9])
if before then return before end
if host.incomplete then return cjson.encode({code = 'again'}) end
follow_cards(host, request)
local missing, changed = {}, {}
for _, index in ipairs(request.gpus) do
  if not host.by_index[index] then missing[#missing + 1] = index end
end
if #missing > 0 then return save_reply(host, {code = 'missing', missing = missing}) end
for _, index in ipairs(with_instances(host, request.gpus)) do
  local gpu = host.by_index[index]
  if request.reason and gpu.drained ~= request.reason then
    redis.call('HSET', gpu.key, 'drained', request.reason)
    publish('gpu.drained', 'gpu/' .. index, cjson.encode({index = index, uuid = gpu.uuid, reason = request.reason, by = request.by}))
    changed[#changed + 1], gpu.drained = index, request.reason
  elseif not request.reason and gpu.drained then
    redis.call('HDEL', gpu.key, 'drained')
    publish('gpu.undrained', 'gpu/' .. index, cjson.encode({index = index, uuid = gpu.uuid, by = request.by}))
    changed[#changed + 1], gpu.drained = index, false
  end
end
serve_queue(host)
return save_reply(host, {code = 'done', changed = changed})
