-- book: promises a user GPUs for a window of time, or returns why that is not possible with what is known. With `more`
-- begins, it promises them for a series of windows of the same length: for all of them, or for none. With `drain`, it is
-- maintenance, for which the GPUs are drained whatever else is promised.
-- `seen` is the place of the last request in the queue that the caller has considered.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation bookings gpu...
-- Args: host rules request
-- Returns: JSON: code (done, refused, never, limit, hours, many, full, newer, again), booked, at (the index of the window that
-- is not possible), missing, managed, need, gpus, hours, concerned
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

local lasts_ms, bookings, own, booked, hours = request.end_ms - request.begin_ms, read_bookings(KEYS[10]), {}, {}, 0
for _, other in ipairs(bookings) do
  if other.uid == request.uid and not other.drain then
    own[#own + 1] = other
    hours = hours + other.count * (other.end_ms - other.begin_ms) / 3600000
  end
end

-- Returns how many GPUs the user will have at most during a window without it.
local function most_booked(window)
  local most, moments = 0, {window.begin_ms}
  for _, other in ipairs(own) do
    if other.begin_ms > window.begin_ms and other.begin_ms < window.end_ms then moments[#moments + 1] = other.begin_ms end
  end
  for _, at_ms in ipairs(moments) do
    local count = held_by(host, request.uid, at_ms)
    for _, other in ipairs(own) do
      if other.begin_ms <= at_ms and other.end_ms > at_ms then count = count + other.count end
    end
    most = math.max(most, count)
  end
  return most
end

-- Returns which limit a booking exceeds, or nil.
local function exceeded(booking)
  local gpus = request.limit and most_booked(booking) or 0
  if request.limit and gpus + booking.count > request.limit then return {code = 'limit', need = booking.count, gpus = gpus} end
  hours = hours + booking.count * lasts_ms / 3600000
  if request.most_hours and hours > request.most_hours then return {code = 'hours', need = booking.count, hours = hours} end
  if request.most_bookings and #own >= request.most_bookings then return {code = 'many', need = #own} end
  if #bookings >= MOST then return {code = 'full', need = MOST} end
end

local named = request.gpus and {} or nil
for i, index in ipairs(request.gpus or {}) do named[i] = identity_of(host.by_index[index]) end

-- Returns the booking of the window that begins at a time.
local function booking_at(begin_ms)
  return {id = '', user = request.user, uid = request.uid, login_uid = request.login_uid, label = request.label, note = request.note,
    count = needed(request), vendor = request.vendor, begin_ms = begin_ms, end_ms = begin_ms + lasts_ms, zone = request.zone,
    created_ms = now_ms, cards = named, drain = request.drain}
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

-- Promises a window, or returns why that is not possible.
local function promise(booking)
  local window, trouble = window_of(booking), exceeded(booking)
  if trouble then return trouble end
  window.at_ms = math.max(window.begin_ms, now_ms)
  if window.end_ms <= now_ms or not (request.drain or fits(window)) then return {code = 'refused', need = booking.count} end
  for _, known in ipairs({bookings, own, booked}) do known[#known + 1] = booking end
  table.sort(bookings, begins_before)
  keep_windows(host, bookings)
end

for place, begin_ms in ipairs({request.begin_ms, unpack(request.more or {})}) do
  local trouble = promise(booking_at(begin_ms))
  if trouble then
    trouble.at = place - 1
    return save_reply(host, trouble)
  end
end
local id = 'b' .. next_id(KEYS[1])
for place, booking in ipairs(booked) do
  booking.id, booking.series = id, booked[2] and id or nil
  if booking.series then booking.id = id .. '.' .. place end
  save_booking(KEYS[10], booking)
end
table.sort(bookings, begins_before)
save_windows(host, bookings)
local concerned
for _, booking in ipairs(booked) do
  concerned = booking.drain and concerned_by(host, booking, bookings)
  publish('booking.created', 'booking/' .. booking.id, booking_facts(host, booking, {concerned = concerned}))
end
return save_reply(host, {code = 'done', booked = booked, concerned = concerned})
