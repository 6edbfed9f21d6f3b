-- manage: sets the GPUs that can be reserved; the others are only shown.
-- If a GPU that would be left out is reserved, nothing changes, unless `force` is set: then the reservation ends.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules request
-- Returns: JSON: code (done, missing, held, again), missing, held, managed, released, left, granted
-- Events: gpu.managed gpu.unmanaged reservation.created reservation.released request.left
local host, request = open_host(10), cjson.decode(ARGV[3])
local before = redis.call('GET', KEYS[9])
if before then return before end
if host.incomplete then return cjson.encode({code = 'again'}) end
follow_cards(host, request)
request.gpus = with_instances(host, request.gpus)
local missing, held, managed = {}, {}, 0
for _, index in ipairs(request.gpus) do
  if not host.by_index[index] then missing[#missing + 1] = index end
end
if #missing > 0 then return save_reply(host, {code = 'missing', missing = missing, known = #host.gpus}) end
for _, gpu in ipairs(host.gpus) do
  local record = gpu.holder and host.records[gpu.holder]
  if record and not wants(request, gpu.index) then held[#held + 1] = {gpu = gpu.index, by = record.user} end
end
if #held > 0 and not request.force then return save_reply(host, {code = 'held', held = held}) end
local parts = {}
for _, one in ipairs(held) do
  local id = host.by_index[one.gpu].holder
  parts[id] = parts[id] or {}
  table.insert(parts[id], one.gpu)
end
local released = release_parts(host, parts, 'unmanaged', request.by)
for _, gpu in ipairs(host.gpus) do
  local told = cjson.encode({index = gpu.index, uuid = gpu.uuid, by = request.by})
  if wants(request, gpu.index) then
    managed = managed + 1
    if gpu.unmanaged then
      redis.call('HDEL', gpu.key, 'unmanaged')
      publish('gpu.managed', 'gpu/' .. gpu.index, told)
    end
    gpu.unmanaged = false
  else
    if not gpu.unmanaged then
      redis.call('HSET', gpu.key, 'unmanaged', '1')
      publish('gpu.unmanaged', 'gpu/' .. gpu.index, told)
    end
    gpu.unmanaged = '1'
  end
end
local left, staying = {}, {}
for _, request_waiting in ipairs(host.requests) do
  local never = needed(request_waiting) > managed_for(host, request_waiting)
  for _, index in ipairs(request_waiting.gpus or {}) do never = never or host.by_index[index].unmanaged end
  if never then
    leave(request_waiting, 'impossible')
    left[#left + 1] = request_waiting.id
  else
    staying[#staying + 1] = request_waiting
  end
end
host.requests = staying
serve_queue(host)
return save_reply(host, {code = 'done', managed = managed, released = released, left = left})
