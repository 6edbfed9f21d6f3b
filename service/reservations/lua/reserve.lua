-- reserve: gives a request all of its GPUs or none; otherwise queues it, or returns why it was refused.
-- A known request (by its operation, or by its id after a restart) gets its current result.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules request
-- Returns: JSON: code (granted, queued, refused, limit, never, gone, again), id, reservation, counts, blocked, until_ms
-- Events: reservation.created request.queued
local host, request = open_host(10), cjson.decode(ARGV[3])
local before = redis.call('GET', KEYS[9])
before = before and cjson.decode(before)
if before and before.code ~= 'granted' and before.code ~= 'queued' then return cjson.encode(before) end
if host.incomplete then return cjson.encode({code = 'again'}) end
follow_cards(host, request)
local known = request.id or (before and before.id)

local function granted(record) return save_reply(host, {code = 'granted', id = record.id, reservation = record}) end

-- Returns why the state of a GPU is unknown or what is wrong with it, and the remedy.
local function trouble(gpu)
  if host.blind and gpu.state ~= 'error' then
    local words = redis.call('HMGET', KEYS[3], 'stalled_reason', 'stalled_remedy')
    return words[1] or 'no scan of late', words[2] or nil
  elseif gpu.state ~= 'ok' then
    local usage = usage_of(gpu)
    return usage.reason, usage.remedy
  end
  return 'no scan since it was released'
end

-- Refuses a request: returns the number of GPUs that are available to the user, and why the others are not.
local function refuse(code, claimed, may, held)
  local counts, blocked, troubles, available, free = {available = #may}, {}, {}, {}, {}
  local named = {gpus = request.gpus and with_instances(host, request.gpus)}
  for _, gpu in ipairs(may) do available[gpu.index] = true end
  for _, gpu in ipairs(host.gpus) do
    local why = is_of(host, gpu, request) and (obstacle(host, gpu, request) or (claimed[gpu.index] and 'claimed'))
    if host.promised and why == nil and wants(request, gpu.index) and not obstacle_within(host, gpu, request, claimed, false, obstacle) then
      free[#free + 1] = gpu
      why = not available[gpu.index] and 'promised'
    end
    local holder = gpu.holder and host.records[gpu.holder]
    if why then counts[why] = (counts[why] or 0) + 1 end
    local reason, remedy
    if why == 'error' or why == 'unknown' then
      reason, remedy = trouble(gpu)
      troubles[#troubles + 1] = {gpu = gpu.index, why = why, reason = reason, remedy = remedy}
    end
    if why and request.gpus and wants(named, gpu.index) then
      blocked[#blocked + 1] = {gpu = gpu.index, why = why, by = holder and holder.user or nil, users = why == 'in_use' and usage_of(gpu).users or nil,
        reason = reason, remedy = remedy}
    end
  end
  return save_reply(host, {code = code, counts = counts, blocked = blocked, troubles = #troubles > 0 and troubles or nil, need = needed(request), held = held,
    until_ms = counts.promised and latest_end(host, request, free, needed(request))})
end

-- A job has one reservation, however often its prolog asks for it.
for _, record in pairs(is_job(request) and not known and every_record(host) or {}) do
  if record.kind == request.kind and record.label == request.label and record.uid == request.uid then return granted(record) end
end

if known then
  local record = host.records[known]
  if record and record.uid == request.uid then return granted(record) end
  for _, waiting in ipairs(host.requests) do
    if waiting.id == known and waiting.uid == request.uid then
      waiting.attached, waiting.limit = true, request.limit
      waiting.fleet_limit, waiting.elsewhere = request.fleet_limit, request.elsewhere
      redis.call('HSET', KEYS[6], known, cjson.encode(waiting))
      serve_queue(host)
      if host.records[known] then return granted(host.records[known]) end
      return save_reply(host, {code = 'queued', id = known})
    end
  end
  return save_reply(host, {code = 'gone', id = known})
end

-- Returns the profiles of the managed MIG instances of this host, or nil if there are none.
local function profiles(host)
  local found, seen = {}, {}
  for _, gpu in ipairs(host.instances and host.gpus or {}) do
    local profile = gpu.index >= FIRST_INSTANCE and not gpu.unmanaged and gpu.text and usage_of(gpu).profile
    if profile and not seen[profile] then found[#found + 1] = profile end
    seen[profile or ''] = true
  end
  return #found > 0 and found or nil
end

local managed, missing = managed_for(host, request), {}
for _, index in ipairs(request.gpus or {}) do
  local gpu = host.by_index[index]
  if not gpu or gpu.unmanaged then missing[#missing + 1] = index end
end
local most = request.most or request.limit  -- Without what the user holds on other hosts of the fleet.
if #missing > 0 or needed(request) > managed or (most and needed(request) > most) then
  local reason, remedy
  if #host.gpus == 0 and host.blind then reason, remedy = trouble({}) end
  return save_reply(host, {code = 'never', missing = missing, managed = managed, limit = most, need = needed(request), divided = profiles(host),
    troubles = reason and {{gpu = 0, why = 'unknown', reason = reason, remedy = remedy}} or nil})
end

local claimed = serve_queue(host)
local may = usable(host, request, claimed)
local over, held = exceeds_limit(host, request)
if not over and #may >= needed(request) then
  request.id = 'r' .. next_id(KEYS[1])
  return granted(create(host, request, may))
end
if not request.wait then return refuse(over and 'limit' or 'refused', claimed, may, over and held or nil) end
request.id = 'r' .. next_id(KEYS[1])
request.place = tonumber(string.match(request.id, '(%d+)$'))
request.queued_ms, request.attached, request.wait, request.most = now_ms, true, nil, nil
redis.call('HSET', KEYS[6], request.id, cjson.encode(request))
publish('request.queued', 'request/' .. request.id, facts_of(request))
return save_reply(host, {code = 'queued', id = request.id})
