-- begin: turns each booking whose time has come into a reservation. One that lacks GPUs waits for them until its end, and
-- says once that it is late; GPUs that were just released, or should be at any moment, may take a minute before that.
-- Maintenance drains its GPUs from its begin to its end.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation bookings gpu...
-- Args: host rules remind_ms
-- Returns: JSON: code (done, again), now_ms, next_ms (when to check again, 0 for never), begun, waiting, granted
-- Events: booking.reminder booking.begun booking.ended booking.late booking.missed gpu.drained gpu.undrained reservation.created
local SETTLES_MS, remind_ms = 60000, tonumber(ARGV[3])
local host = open_host(11)
if host.incomplete then return cjson.encode({code = 'again'}) end
local next_ms, left, begun, waiting, due, claimed = 0, {}, {}, 0, false, {}
local bookings = read_bookings(KEYS[10])

local function look_at(ms)
  if next_ms == 0 or ms < next_ms then next_ms = ms end
end

-- Returns what keeps a booking from a GPU, or nil; then also whether that is about to end.
local function obstacle_at(gpu, request)
  local why, record = obstacle(host, gpu, request), gpu.holder and host.records[gpu.holder]
  local over = record and end_of(record) <= now_ms
  if not why then return nil end
  return {gpu = gpu.index, why = why, over = over or nil, users = record and {record.user} or
    (why == 'in_use' and usage_of(gpu).users) or nil}, over or why == 'unknown'
end

-- Returns what keeps a booking from GPUs that it could use, and how many of them are about to become free.
local function obstacles(request)
  local found, settling = {}, 0
  for _, gpu in ipairs(host.gpus) do
    if wants(request, gpu.index) and is_of(host, gpu, request) then
      local before, lasting = #found, false
      for _, index in ipairs(with_instances(host, {gpu.index})) do
        local why, settles = obstacle_at(host.by_index[index], request)
        found[#found + 1], lasting = why, lasting or (why and not settles)
      end
      if #found > before and not lasting then settling = settling + 1 end
    elseif not request.gpus and is_of(host, gpu, {gpus = {}, vendor = request.vendor}) and instances_of(host, gpu.index)[1] then
      found[#found + 1] = {gpu = gpu.index, why = 'divided'}
    end
  end
  return found, settling
end

local function start(booking, request, may)
  request.id = 'r' .. next_id(KEYS[1])
  local record = create(host, request, may)
  begun[#begun + 1] = record
  redis.call('HDEL', KEYS[10], booking.id)
  publish('booking.begun', 'booking/' .. booking.id, booking_facts(host, booking, {reservation = record.id, gpus = record.gpus,
    uuids = uuids_of(host, record.gpus), started = now(), deadline = record.unused_ms and rfc3339(now_ms + host.rules.no_show_ms) or nil}))
end

-- Keeps GPUs for a booking that cannot begin yet.
local function wait(booking, request, may)
  cards(host)
  if is_possible(host, booking) then
    for i = 1, math.min(#may, needed(request)) do
      for _, index in ipairs(with_instances(host, {may[i].index})) do claimed[index] = booking.id end
    end
  end
  local found, settling = obstacles(request)
  local settled_ms = booking.begin_ms + SETTLES_MS
  left[#left + 1], waiting = booking, waiting + 1
  look_at(booking.end_ms)
  if not booking.late_ms and (#may + settling < needed(request) or now_ms >= settled_ms) then
    booking.late_ms = now_ms
    save_booking(KEYS[10], booking)
    publish('booking.late', 'booking/' .. booking.id, booking_facts(host, booking, {obstacles = found}))
  elseif not booking.late_ms then
    look_at(settled_ms)
  end
end

-- Reminds the user of a booking that was made before the time of that.
local function remind(booking)
  local at_ms = booking.begin_ms - remind_ms
  if remind_ms == 0 or booking.reminded_ms or booking.created_ms > at_ms then return end
  if now_ms < at_ms then return look_at(at_ms) end
  booking.reminded_ms = now_ms
  save_booking(KEYS[10], booking)
  local concerned = booking.drain and concerned_by(host, booking, bookings) or nil
  publish('booking.reminder', 'booking/' .. booking.id, booking_facts(host, booking, {concerned = concerned}))
end

-- Drains the GPUs of a maintenance that begins, or makes those of one that has ended available again.
local function maintain(booking)
  if booking.end_ms <= now_ms then
    due = true
    redis.call('HDEL', KEYS[10], booking.id)
    end_maintenance(host, booking, bookings)
    local event, reason = booking.began_ms and 'booking.ended' or 'booking.missed', not booking.began_ms and 'off' or nil
    return publish(event, 'booking/' .. booking.id, booking_facts(host, booking, {reason = reason}))
  end
  left[#left + 1] = booking
  if booking.begin_ms > now_ms then
    look_at(booking.begin_ms)
    return remind(booking)
  end
  look_at(booking.end_ms)
  if not booking.began_ms then
    due = true
    begin_maintenance(host, booking)
    save_booking(KEYS[10], booking)
    local concerned = concerned_by(host, booking, bookings)
    publish('booking.begun', 'booking/' .. booking.id, booking_facts(host, booking, {started = now(), concerned = concerned}))
  end
end

-- Begins a booking whose time has come.
local function attend(booking)
  if booking.end_ms <= now_ms then
    due = true
    redis.call('HDEL', KEYS[10], booking.id)
    publish('booking.missed', 'booking/' .. booking.id, booking_facts(host, booking, {reason = booking.late_ms and 'late' or 'off'}))
  elseif booking.begin_ms > now_ms then
    left[#left + 1] = booking
    look_at(booking.begin_ms)
    remind(booking)
  else
    due = true
    local request = {kind = 'manual', user = booking.user, uid = booking.uid, login_uid = booking.login_uid, label = booking.label,
      note = booking.note, count = booking.count, vendor = booking.vendor, gpus = indices_of(host, booking), booking = booking.id,
      duration_ms = booking.end_ms - now_ms}
    local may = usable(host, request, claimed)
    if #may >= needed(request) then start(booking, request, may) else wait(booking, request, may) end
  end
end

for _, booking in ipairs(bookings) do
  if booking.drain then maintain(booking) end
end
host.free = free_gpus(host)
for _, booking in ipairs(bookings) do
  if not booking.drain then attend(booking) end
end
if due then
  table.sort(left, begins_before)
  save_windows(host, left)
  serve_queue(host)
end
return cjson.encode({code = 'done', now_ms = now_ms, next_ms = next_ms, begun = begun, waiting = waiting, granted = host.granted})
