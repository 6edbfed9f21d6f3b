-- book: promises a user GPUs for a window of time, or returns why that is not possible with what is known.
-- `seen` is the place of the last request in the queue that the caller has considered.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation bookings gpu...
-- Args: host rules request
-- Returns: JSON: code (done, refused, never, limit, hours, many, full, newer, again), booking, missing, managed, need, gpus, hours
-- Events: booking.created
local MOST = 1000  -- Open bookings of a host: each of them costs every allocation some time.
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

-- Returns how many GPUs the user will have at most during the window without it, the GPU-hours of their bookings, and the
-- number of these.
local function booked_by(user)
  local most, hours, own = 0, 0, {}
  for _, other in ipairs((request.limit or request.most_hours or request.most_bookings) and read_bookings(KEYS[10]) or {}) do
    if other.uid == user then
      own[#own + 1] = other
      hours = hours + other.count * (other.end_ms - other.begin_ms) / 3600000
    end
  end
  if not request.limit then return 0, hours, #own end
  local moments = {request.begin_ms}
  for _, other in ipairs(own) do
    if other.begin_ms > request.begin_ms and other.begin_ms < request.end_ms then moments[#moments + 1] = other.begin_ms end
  end
  for _, at_ms in ipairs(moments) do
    local count = held_by(host, user, at_ms)
    for _, other in ipairs(own) do
      if other.begin_ms <= at_ms and other.end_ms > at_ms then count = count + other.count end
    end
    most = math.max(most, count)
  end
  return most, hours, #own
end

local gpus, hours, number = booked_by(request.uid)
hours = hours + needed(request) * (request.end_ms - request.begin_ms) / 3600000
if request.limit and gpus + needed(request) > request.limit then
  return save_reply(host, {code = 'limit', need = needed(request), gpus = gpus})
end
if request.most_hours and hours > request.most_hours then
  return save_reply(host, {code = 'hours', need = needed(request), hours = hours})
end

if request.most_bookings and number >= request.most_bookings then return save_reply(host, {code = 'many', need = number}) end
if redis.call('HLEN', KEYS[10]) >= MOST then return save_reply(host, {code = 'full', need = MOST}) end

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
