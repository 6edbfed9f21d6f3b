-- Shared by the scripts of the service: maintenance. It is a booking of an administrator that drains the GPUs which it names
-- while it is open; `drain` is the reason. `began_ms`: when it has drained them.

-- Returns the GPUs of a booking that names some, with their instances.
local function gpus_in(host, booking)
  local found = {}
  for _, index in ipairs(with_instances(host, indices_of(host, booking) or {})) do found[#found + 1] = host.by_index[index] end
  return found
end

local function publish_handling(event_type, gpu, booking)
  local facts = {index = gpu.index, uuid = gpu.uuid or '', reason = gpu.drained or nil, by = booking.user}
  publish(event_type, 'gpu/' .. gpu.index, cjson.encode(facts))
end

-- Drains the GPUs of a maintenance. One that is drained already keeps its reason.
local function begin_maintenance(host, booking)
  booking.began_ms, host.margins, host.cards = now_ms, nil, nil
  for _, gpu in ipairs(gpus_in(host, booking)) do
    if not gpu.drained then
      gpu.drained = booking.drain
      redis.call('HSET', gpu.key, 'drained', gpu.drained)
      publish_handling('gpu.drained', gpu, booking)
    end
  end
end

-- Makes the GPUs of a maintenance available again, if they are still drained for it. One of another maintenance that is open
-- stays drained.
local function end_maintenance(host, booking, bookings)
  local others = {}
  for _, other in ipairs(booking.began_ms and bookings or {}) do
    if other.began_ms and other.id ~= booking.id and other.end_ms > now_ms then
      for _, gpu in ipairs(gpus_in(host, other)) do others[gpu.index] = other end
    end
  end
  host.margins, host.cards = nil, nil
  for _, gpu in ipairs(booking.began_ms and gpus_in(host, booking) or {}) do
    local other = others[gpu.index]
    if gpu.drained == booking.drain and not other then
      gpu.drained = false
      redis.call('HDEL', gpu.key, 'drained')
      publish_handling('gpu.undrained', gpu, booking)
    elseif gpu.drained == booking.drain and other.drain ~= booking.drain then
      gpu.drained = other.drain
      redis.call('HSET', gpu.key, 'drained', gpu.drained)
      publish_handling('gpu.drained', gpu, other)
    end
  end
end

-- Returns whom a maintenance concerns, or nil: who holds its GPUs beyond its begin, and whose bookings it leaves without GPUs.
local function concerned_by(host, booking, bookings)
  local found, held, named, short = {}, {}, {}, {}
  for _, gpu in ipairs(gpus_in(host, booking)) do
    local record = gpu.holder and host.records[gpu.holder]
    named[gpu.index] = true
    if record and end_of(record) > booking.begin_ms then
      if not held[record.id] then
        held[record.id] = {user = record.user, uid = record.uid, reservation = record.id, gpus = {}}
        found[#found + 1] = held[record.id]
      end
      table.insert(held[record.id].gpus, gpu.index)
    end
  end
  for _, margin in ipairs(weigh(host)) do short[margin.of.id] = margin.left < 0 end
  for _, other in ipairs(bookings) do
    if not other.drain and other.begin_ms < booking.end_ms and other.end_ms > booking.begin_ms then
      local lacks = not other.cards and short[other.id]
      for _, gpu in ipairs(gpus_in(host, other)) do lacks = lacks or named[gpu.index] end
      if lacks then found[#found + 1] = {user = other.user, uid = other.uid, booking = other.id} end
    end
  end
  return #found > 0 and found or nil
end
