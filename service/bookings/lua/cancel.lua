-- cancel: ends bookings of one user before they begin, or maintenance, for that user or an administrator. Their GPUs are
-- promised to nobody any more. `ids` are ids or beginnings of ids, or those of series, of which all bookings end that have not begun.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation bookings gpu...
-- Args: host rules request
-- Returns: JSON: code (done, several, not-yours, missing, again), id, ids, users, cancelled, granted
-- Events: booking.cancelled gpu.drained gpu.undrained reservation.created
local host, order = open_host(11), cjson.decode(ARGV[3])
local before = redis.call('GET', KEYS[9])
if before then return before end
if host.incomplete then return cjson.encode({code = 'again'}) end
local bookings, chosen = read_bookings(KEYS[10]), {}

-- Chooses the bookings of the series with this id; returns whether there were any of the user.
local function choose_series(id)
  local is_there = false
  for _, booking in ipairs(bookings) do
    if booking.series == id and is_own(booking, order) then chosen[booking.id], is_there = true, true end
  end
  return is_there
end

-- Chooses the booking with this id, or whose id begins like it; returns why that is not possible, or nil.
local function choose(id)
  if choose_series(id) then return nil end
  local own, ids, users = nil, {}, {}
  for _, booking in ipairs(bookings) do
    if booking.id == id then own, ids, users = nil, {}, {} end
    if string.sub(booking.id, 1, #id) == id then
      if is_own(booking, order) then
        own, ids[#ids + 1] = booking, booking.id
      else
        users[#users + 1] = booking.user
      end
    end
    if booking.id == id then break end
  end
  if not own then return {code = #users > 0 and 'not-yours' or 'missing', id = id, users = users} end
  if #ids > 1 then return {code = 'several', id = id, ids = ids} end
  chosen[own.id] = true
end

for _, id in ipairs(order.ids) do
  local trouble = choose(id)
  if trouble then return save_reply(host, trouble) end
end
local staying, cancelled = {}, {}
for _, booking in ipairs(bookings) do
  if chosen[booking.id] then cancelled[#cancelled + 1] = booking else staying[#staying + 1] = booking end
end
for _, booking in ipairs(cancelled) do
  redis.call('HDEL', KEYS[10], booking.id)
  end_maintenance(host, booking, staying)
  publish('booking.cancelled', 'booking/' .. booking.id, booking_facts(host, booking, {by = order.by}))
end
save_windows(host, staying)
serve_queue(host)
return save_reply(host, {code = 'done', cancelled = cancelled})
