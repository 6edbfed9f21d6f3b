-- book: promises a user GPUs for a window of time, or returns why that is not possible with what is known.
-- `seen` is the place of the last request in the queue that the caller has considered.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation bookings gpu...
-- Args: host rules request
-- Returns: JSON: code (done, refused, never, limit, hours, newer, again), booking, missing, managed, need, gpus, hours
-- Events: booking.created
local host, request = open_host(11), cjson.decode(ARGV[3])
local before = redis.call('GET', KEYS[9])
if before then return before end
if host.incomplete then return cjson.encode({code = 'again'}) end
follow_cards(host, request)

local missing, managed = {}, managed_for(host, request)
for _, index in ipairs(request.gpus or {}) do
  local gpu = host.by_index[index]
  if not gpu or gpu.unmanaged then missing[#missing + 1] = index end
end
if #missing > 0 or needed(request) > managed then
  return save_reply(host, {code = 'never', missing = missing, managed = managed, need = needed(request)})
end
for _, waiting in ipairs(request.seen and host.requests or {}) do
  if waiting.place > request.seen then return cjson.encode({code = 'newer'}) end
end

-- Returns how many GPUs the user's bookings beside this one have at most, and the GPU-hours of all of them.
local function booked_by(user)
  local gpus, hours = 0, 0
  for _, other in ipairs((request.limit or request.most_hours) and read_bookings(KEYS[10]) or {}) do
    if other.uid == user then
      hours = hours + other.count * (other.end_ms - other.begin_ms) / 3600000
      if other.begin_ms < request.end_ms and other.end_ms > request.begin_ms then gpus = gpus + other.count end
    end
  end
  return gpus, hours
end

-- Returns how many GPUs a user holds now and can still hold when the window begins.
local function held_by(user)
  local held = 0
  for _, gpu in ipairs(request.limit and host.gpus or {}) do
    if gpu.holder and tonumber(gpu.holder_uid) == user and counts_for_itself(host, gpu) then
      local record = host.records[gpu.holder]
      if not record or end_of(record) > request.begin_ms then held = held + 1 end
    end
  end
  return held
end

local gpus, hours = booked_by(request.uid)
gpus = gpus + held_by(request.uid)
hours = hours + needed(request) * (request.end_ms - request.begin_ms) / 3600000
if request.limit and gpus + needed(request) > request.limit then
  return save_reply(host, {code = 'limit', need = needed(request), gpus = gpus})
end
if request.most_hours and hours > request.most_hours then
  return save_reply(host, {code = 'hours', need = needed(request), hours = hours})
end

local booking = {user = request.user, uid = request.uid, login_uid = request.login_uid, label = request.label, note = request.note,
  count = needed(request), vendor = request.vendor, begin_ms = request.begin_ms, end_ms = request.end_ms, zone = request.zone,
  created_ms = now_ms}
for i, index in ipairs(request.gpus or {}) do
  booking.cards = booking.cards or {}
  booking.cards[i] = identity_of(host.by_index[index])
end

-- Returns whether the GPUs that a window names can be promised to it.
local function are_free(window)
  for _, uuid in ipairs(window.cards) do
    local card = weigh(host) and host.by_card[uuid]
    if not card or card.free_ms > window.at_ms then return false end
    for _, other in ipairs(card.named) do
      if other.begin_ms < window.end_ms and other.end_ms > window.at_ms then return false end
    end
    if is_whole(host, card.gpu) then window.vendor, window.whole = card.vendor, true end
  end
  return true
end

-- Returns whether a window can be promised so that all windows can begin.
local function fits(window)
  cards(host)
  if not is_possible(host, window) or (window.cards and not are_free(window)) then return false end
  for _, margin in ipairs(window.cards and not window.whole and {} or margins(host, window)) do
    local meets = margin.at_ms < window.end_ms and could_meet(margin.vendor, window.vendor)
    if window.cards then meets = meets and margin.end_ms > window.at_ms else meets = meets and margin.at_ms >= window.at_ms end
    if meets and margin.left < 0 then return false end
  end
  return true
end

local window = window_of(booking)
window.at_ms = math.max(window.begin_ms, now_ms)
if window.end_ms <= now_ms or not fits(window) then return save_reply(host, {code = 'refused', need = needed(request)}) end
booking.id = 'b' .. next_id(KEYS[1])
save_booking(KEYS[10], booking)
save_windows(host, read_bookings(KEYS[10]))
publish('booking.created', 'booking/' .. booking.id, booking_facts(host, booking))
return save_reply(host, {code = 'done', booking = booking})
