-- Shared by the scripts of the service: the bookings that have not begun, by id in the hash `key`.
-- What allocation has to know of them is in the field `windows` of the scan (promises.lua), which is written with them.
local BOOKING = {id = 'string', user = 'string', uid = 'number', begin_ms = 'number', end_ms = 'number', count = 'number',
  created_ms = 'number'}

-- Returns a stored booking, or nil if it cannot be read.
local function booking_of(text)
  local good, booking = pcall(cjson.decode, text)
  return good and has_shape(booking, BOOKING) and has_shape(booking, {cards = 'table', login_uid = 'number', drain = 'string', began_ms = 'number'}, true) and booking or nil
end

local function begins_before(one, other)
  if one.begin_ms ~= other.begin_ms then return one.begin_ms < other.begin_ms end
  return one.id < other.id
end

-- Returns the bookings, earliest first.
local function read_bookings(key)
  local found = {}
  for _, text in ipairs(redis.call('HVALS', key)) do found[#found + 1] = booking_of(text) end
  table.sort(found, begins_before)
  return found
end

local function save_booking(key, booking) redis.call('HSET', key, booking.id, cjson.encode(booking)) end

-- Returns the part of a booking that allocation has to know.
local function window_of(booking)
  return {id = booking.id, uid = booking.uid, begin_ms = booking.begin_ms, end_ms = booking.end_ms, count = booking.count,
    vendor = booking.vendor, cards = booking.cards, drain = booking.drain, begun = booking.began_ms and true or nil}
end

-- Takes the windows of these bookings, those that begin first first, for what is promised, until the script ends.
local function keep_windows(host, bookings)
  local found = {}
  for i, booking in ipairs(bookings) do found[i] = window_of(booking) end
  host.promised, host.windows, host.margins, host.cards = #found > 0 and cjson.encode(found) or false, nil, nil, nil
end

-- Stores what is promised: the windows of these bookings.
local function save_windows(host, bookings)
  keep_windows(host, bookings)
  if host.promised then redis.call('HSET', KEYS[3], 'windows', host.promised) else redis.call('HDEL', KEYS[3], 'windows') end
end

-- Returns the indices of the GPUs that a booking names, -1 for one that is gone; nil if it names none.
local function indices_of(host, booking)
  if not booking.cards then return nil end
  local found = {}
  for i, uuid in ipairs(booking.cards) do
    found[i] = -1
    for _, gpu in ipairs(host.gpus) do
      if identity_of(gpu) == uuid then found[i] = gpu.index end
    end
  end
  return found
end

-- Returns a booking as events show it: times in RFC 3339, without internal fields.
local function booking_facts(host, booking, extra)
  local shown = {begin = rfc3339(booking.begin_ms), ['end'] = rfc3339(booking.end_ms), created = rfc3339(booking.created_ms),
    gpus = indices_of(host, booking), uuids = booking.cards}
  for _, name in ipairs({'id', 'series', 'user', 'uid', 'count', 'vendor', 'zone', 'label', 'note', 'drain'}) do shown[name] = booking[name] end
  for name, value in pairs(extra or {}) do shown[name] = value end
  return cjson.encode(shown)
end
