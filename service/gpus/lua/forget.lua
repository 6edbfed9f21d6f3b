-- forget: removes GPUs that the driver has not listed for missing_ms. Their reservations are released and their
-- violations are closed. The settings of a card are stored under its UUID, if the UUID identifies it, until it is back.
-- If another listed card has the same UUID, the GPU is removed at once, unless it has state that somebody needs.
-- Requests that cannot be served any more leave the queue: of what is gone, or of whole GPUs if some were `divided`.
-- A MIG instance is removed at once if its card is without it (`dissolved`), but not one with a holder that the first
-- scan after a start did not find (`early`): after a start of the host, instances are created later.
-- Keys: sequence events scan gpus reservations queue affinity ledger violations open pending removed gpu...
-- Args: host rules missing_ms cards divided
-- Returns: JSON: code (done, again), removed, released, granted
-- Events: gpu.removed violation.closed request.left reservation.created reservation.released
local violations, open_key, pending_key, removed_key = KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local KEPT = {'drained', 'unmanaged', 'last_released', 'failed'}
local host, cards = open_host(13), cjson.decode(ARGV[4])
for _, index in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do  -- A new card of this scan may not be in the list yet.
  if not host.by_index[tonumber(index)] then return cjson.encode({code = 'again'}) end
end

local function publish_violation(verb, field, text)
  local index, key = string.match(field, '^(%d+)/(.*)$')
  local record = violation_of(text)
  if not record then return end
  local ended = {reason = 'vanished', closed = now(), duration_s = math.max(0, math.floor((now_ms - record.since_ms) / 1000))}
  publish('violation.' .. verb, 'violation/' .. record.id, violation_data(tonumber(index), key, record, ended), violations)
end

-- Removes and returns the fields of a hash that are about a GPU. The first capture of `pattern` is the index.
local function take_fields(key, pattern, index)
  local found = {}
  for field, value in pairs(pairs_of(key)) do
    if tonumber((string.match(field, pattern))) == index then
      found[field] = value
      redis.call('HDEL', key, field)
    end
  end
  return found
end

local function store_removed(gpu, card)
  local had = {}
  for field, moment in pairs(take_fields(KEYS[7], '/(%d+)$', gpu.index)) do had[string.match(field, '^(.*)/')] = moment end
  if card.uuid == '' then return end
  local facts = {}
  for _, name in ipairs(KEPT) do facts[name] = redis.call('HGET', gpu.key, name) or nil end
  redis.call('HSET', removed_key, card.uuid, cjson.encode({facts = facts, affinity = had, at_ms = now_ms}))
end

local gone, parts, removed, accused = {}, {}, {}, {}
for _, field in ipairs(redis.call('HKEYS', open_key)) do accused[tonumber((string.match(field, '^%d+')))] = true end
for _, card in ipairs(cards) do
  local gpu = host.by_index[card.index]
  local missing = gpu and redis.call('HMGET', gpu.key, 'missing_ms', 'was') or {}
  local since_ms = tonumber(missing[1] or nil)
  local needless = gpu and card.again and not (gpu.holder or gpu.drained or gpu.unmanaged or accused[card.index])
  local dissolved = gpu and card.dissolved and not (card.early and gpu.holder)
  if since_ms and (needless or dissolved or now_ms - since_ms >= tonumber(ARGV[3])) then
    gone[card.index], removed[#removed + 1] = card, card.index
    gpu.was = tonumber(missing[2] or nil)
    if gpu.holder then
      parts[gpu.holder] = parts[gpu.holder] or {}
      table.insert(parts[gpu.holder], card.index)
    end
  end
end
if #removed == 0 and ARGV[5] == '0' then return cjson.encode({code = 'done'}) end
redis.call('HDEL', KEYS[3], 'settled')
local released = release_parts(host, parts, 'vanished')

local left = {}
for _, gpu in ipairs(host.gpus) do
  local card = gone[gpu.index]
  if card then
    for field, text in pairs(take_fields(open_key, '^(%d+)/', gpu.index)) do publish_violation('closed', field, text) end
    take_fields(pending_key, '^(%d+)/', gpu.index)
    store_removed(gpu, card)
    redis.call('DEL', gpu.key)
    redis.call('ZREM', KEYS[4], gpu.index)
    host.by_index[gpu.index] = nil
    publish('gpu.removed', 'gpu/' .. gpu.index, cjson.encode({index = gpu.index, uuid = gpu.uuid or '',
      reason = card.again and 'its UUID is the one of another GPU' or card.dissolved and 'no longer an instance of its GPU' or 'not found by the driver'}))
  else
    left[#left + 1] = gpu
  end
end
host.gpus = left
for card, instances in pairs(host.instances or {}) do
  local stay = {}
  for _, instance in ipairs(instances) do
    if host.by_index[instance.index] then stay[#stay + 1] = instance end
  end
  host.instances[card] = #stay > 0 and stay or nil
end

local waiting = {}
for _, request in ipairs(host.requests) do
  local never = (#removed > 0 or not request.profile) and needed(request) > managed_for(host, request)
  for _, index in ipairs(request.gpus or {}) do never = never or not host.by_index[index] end
  if never then
    leave(request, 'impossible')
  else
    waiting[#waiting + 1] = request
  end
end
host.requests = waiting
for uuid, text in pairs(pairs_of(removed_key)) do
  if now_ms - cjson.decode(text).at_ms > LEDGER_KEPT_MS then redis.call('HDEL', removed_key, uuid) end
end
serve_queue(host)
return cjson.encode({code = 'done', removed = removed, released = released, granted = host.granted})
