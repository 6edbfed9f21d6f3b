-- restore: restores the acknowledged state. Reservations that Redis lost are stored again, and those that had ended
-- are removed. Requests keep their places; no client is connected to them yet.
-- Keys: sequence events scan gpus reservations queue affinity ledger bookings gpu...
-- Args: host rules state
-- Returns: JSON: restored, dropped, conflicts; nothing if the cards have other indices than the caller has read
-- Events: reservation.restored reservation.released gpu.drained gpu.undrained gpu.managed gpu.unmanaged booking.restored booking.cancelled
local host, state = open_host(10), cjson.decode(ARGV[3])
local restored, dropped, conflicts = {}, {}, {}
local owner = redis.call('HGET', KEYS[3], 'owner')
if owner and owner ~= state.owner then error('BEHIND the data are not of this service') end
for index, uuid in pairs(state.uuids) do
  local gpu = host.by_index[tonumber(index)]
  if (gpu and gpu.uuid or '') ~= uuid then return false end
end

if sequence_at(KEYS[1]) < state.sequence then redis.call('SET', KEYS[1], whole(state.sequence)) end
redis.call('HSET', KEYS[3], 'dataset', state.dataset, 'owner', state.owner)
redis.call('HDEL', KEYS[3], 'settled')

for _, id in ipairs(state.ended) do
  local record = host.records[id]
  if record then
    release(host, record, record.gpus, 'stale')
    dropped[#dropped + 1] = id
  end
end

local strong, weak = {}, {}
for _, id in ipairs(state.strong) do strong[id] = true end
for _, id in ipairs(state.weak) do weak[id] = true end

-- Resolves conflicts: if two reservations have the same GPU, a run with a live process keeps it, or else the
-- current holder. A reservation that was not acknowledged yet keeps nothing. A card that has got instances is restored
-- with them, and who loses one of them does not hold the card as a whole.
local function without_conflicts(record)
  local all, lost, gpus = {gpus = with_instances(host, record.gpus)}, {}, {}
  for _, index in ipairs(all.gpus) do
    local gpu = host.by_index[index]
    local other = gpu and gpu.holder and gpu.holder ~= record.id and host.records[gpu.holder]
    if other then
      local wins = weak[other.id] or (record.kind == 'run' and not strong[other.id])
      if wins then release(host, other, lost_with(host, other, {index}, 'lost'), 'lost') else lost[#lost + 1] = index end
      conflicts[#conflicts + 1] = {gpu = index, holder = wins and record.user or other.user, loser = wins and other.user or record.user}
    end
  end
  lost = lost_with(host, all, lost, 'lost')
  for _, index in ipairs(all.gpus) do
    if #lost == 0 or not wants({gpus = lost}, index) then gpus[#gpus + 1] = index end
  end
  return gpus
end

-- Frees GPUs that belong to the reservation only in old data, because it had released them.
local function release_former_gpus(record)
  for _, gpu in ipairs(host.gpus) do
    if gpu.holder == record.id and not wants({gpus = record.gpus}, gpu.index) then
      gpu.holder = false
      redis.call('HDEL', gpu.key, 'holder', 'holder_uid', 'holder_user', 'holder_since', 'holder_login', 'holder_up', 'disowned')
    end
  end
end

for _, text in ipairs(state.records) do
  local record = record_of(text)
  release_former_gpus(record)
  record.gpus = without_conflicts(record)
  if #record.gpus > 0 then
    host.records[record.id] = record
    for _, index in ipairs(record.gpus) do
      local gpu = host.by_index[index]
      gpu.holder = record.id
      redis.call('ZADD', KEYS[4], index, index)
      redis.call('HSET', gpu.key, 'holder', record.id, 'holder_uid', record.uid, 'holder_user', record.user,
        'holder_since', whole(record.started_ms))
      hold_from(gpu.key, record)
    end
    save(record)
    restored[#restored + 1] = record.id
    publish('reservation.restored', 'reservation/' .. record.id, facts_of(record))
  end
end

-- Restores whether a GPU is drained or unmanaged.
local function restore_handling(gpu, card)
  local subject, facts = 'gpu/' .. gpu.index, {index = gpu.index, uuid = gpu.uuid or '', reason = card.drained}
  local drained, unmanaged = card.drained or false, card.unmanaged or false
  if drained ~= gpu.drained then
    if drained then redis.call('HSET', gpu.key, 'drained', drained) else redis.call('HDEL', gpu.key, 'drained') end
    publish(drained and 'gpu.drained' or 'gpu.undrained', subject, cjson.encode(facts))
  end
  facts.reason = nil
  if unmanaged ~= (gpu.unmanaged and true or false) then
    if unmanaged then redis.call('HSET', gpu.key, 'unmanaged', '1') else redis.call('HDEL', gpu.key, 'unmanaged') end
    publish(unmanaged and 'gpu.unmanaged' or 'gpu.managed', subject, cjson.encode(facts))
  end
end

for index, card in pairs(state.cards) do
  local gpu = host.by_index[tonumber(index)]
  redis.call('ZADD', KEYS[4], index, index)
  if gpu and not gpu.uuid then  -- Redis has lost the state of this GPU.
    if card.uuid then redis.call('HSET', gpu.key, 'uuid', card.uuid) end  -- So that the stored state follows the card.
    gpu.uuid = card.uuid
    restore_handling(gpu, card)
  elseif gpu and state.behind and gpu.uuid == card.uuid then
    restore_handling(gpu, card)
  end
end

for _, text in ipairs(state.requests) do
  local request = request_of(text)
  request.attached = nil
  redis.call('HSETNX', KEYS[6], request.id, cjson.encode(request))
end

-- Puts the acknowledged bookings in the place of older data. Those that have begun since are reservations now.
local function restore_bookings()
  local over, found, old = {}, {}, {}
  for _, record in pairs(every_record(host)) do over[record.booking or ''] = true end
  for _, booking in ipairs(read_bookings(KEYS[9])) do old[booking.id] = booking end
  for _, text in ipairs(state.bookings) do
    local booking = booking_of(text)
    if booking and not over[booking.id] then
      found[#found + 1] = booking
      if not old[booking.id] then publish('booking.restored', 'booking/' .. booking.id, booking_facts(host, booking)) end
      old[booking.id] = nil
    end
  end
  redis.call('DEL', KEYS[9])
  for _, booking in pairs(old) do publish('booking.cancelled', 'booking/' .. booking.id, booking_facts(host, booking, {reason = 'stale'})) end
  for _, booking in ipairs(found) do save_booking(KEYS[9], booking) end
  table.sort(found, begins_before)
  save_windows(host, found)
end

if state.behind then restore_bookings() end
return cjson.encode({restored = restored, dropped = dropped, conflicts = conflicts})
