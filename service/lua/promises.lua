-- Shared by the scripts of the service: which GPUs are promised to bookings, and what can be granted in spite of that.
-- The field `windows` of the scan has the promised windows, earliest first: id, uid, begin_ms, end_ms,
-- count, vendor, and, if the booking names its GPUs, their UUIDs as `cards`. Without bookings there is no such field.
-- `drain`: the window is for maintenance, and this is why its GPUs are drained while it is open (maintenance.lua); `begun`:
-- they were. An administrator may have undrained some since.
--
-- A window without names can begin if, at its begin, as many GPUs are left as all windows without names need that are
-- open then. GPUs are left if they can be allocated, are not known to be taken at that time, and are not named by a
-- window that overlaps it. Nothing is granted that would leave too few. Only whole GPUs count, which are not divided into
-- MIG instances. A window that names a divided GPU has its instances, and the GPU is not left to others if one of them is
-- named.

-- Returns when a reservation ends at the latest.
local function end_of(record)
  if record.timeout_ms then return record.started_ms + record.timeout_ms end
  return record.expires_ms or math.huge
end

-- Returns when a request ends at the latest if it is granted now.
local function end_if_granted(request)
  local lasts_ms = request.timeout_ms or request.duration_ms
  return lasts_ms and now_ms + lasts_ms or math.huge
end

-- Returns how many GPUs a request needs.
local function needed(request) return request.gpus and #request.gpus or request.count end

-- Returns the UUID of a GPU, or its index if it has none.
local function identity_of(gpu) return gpu.uuid and gpu.uuid ~= '' and gpu.uuid or '#' .. gpu.index end

-- Returns from when on a GPU with its instances is free, as far as is known. What should be free but is not, or cannot be
-- read, counts as free in a moment: a window that is due cannot begin on it now.
local function free_from(host, gpu)
  local record, free_ms = gpu.holder and host.records[gpu.holder], 0
  if gpu.holder then
    free_ms = math.max(record and end_of(record) or math.huge, now_ms + 1)
  elseif gpu.state == 'ok' and is_used(gpu) then
    free_ms = math.huge
  elseif gpu.state ~= 'ok' or gpu.unseen or host.blind then
    free_ms = now_ms + 1
  end
  for _, instance in ipairs(instances_of(host, gpu.index)) do free_ms = math.max(free_ms, free_from(host, instance)) end
  return free_ms
end

-- Returns all windows that are promised.
local function promised(host)
  if not host.windows then host.windows = host.promised and cjson.decode(host.promised) or {} end
  return host.windows
end

-- Returns the reasons of maintenance that has begun, by the UUIDs of its GPUs.
local function open_maintenance(host)
  local found = {}
  for _, window in ipairs(promised(host)) do
    for _, uuid in ipairs(window.begun and window.cards or {}) do
      found[uuid] = found[uuid] or {}
      found[uuid][window.drain] = true
    end
  end
  return found
end

-- Returns whether a GPU is drained for maintenance that is open.
local function is_maintained(host, open, gpu)
  local card = gpu.index >= FIRST_INSTANCE and host.by_index[card_of(gpu.index)]
  local own, of_card = open[identity_of(gpu)], card and open[identity_of(card)]
  return gpu.drained and ((own and own[gpu.drained]) or (of_card and of_card[gpu.drained]))
end

-- Returns whether an administrator must do something before a GPU can be allocated. Maintenance ends without that; until
-- then, its window keeps the GPU.
local function is_lost(host, open, gpu)
  if not is_out(host, gpu) or not next(open) then return is_out(host, gpu) end
  for _, one in ipairs({gpu, unpack(instances_of(host, gpu.index))}) do
    if one.unmanaged or one.state == 'error' or (one.drained and not is_maintained(host, open, one)) then return true end
  end
  return false
end

local function could_meet(one, other) return not one or not other or one == other end

-- Returns the whole GPUs that can be allocated without an administrator. `by_card` has all GPUs and instances by UUID: each
-- with its vendor, from when on it is free, and whether it is lost.
local function cards(host)
  if host.cards then return host.cards end
  host.cards, host.by_card = {}, {}
  local open = open_maintenance(host)
  for _, gpu in ipairs(host.gpus) do
    local amd, id = gpu.text and string.find(gpu.text, '"vendor":"amd"', 1, true), identity_of(gpu)
    local card = {gpu = gpu, vendor = amd and 'amd' or 'nvidia', free_ms = free_from(host, gpu), out = is_lost(host, open, gpu), named = {}}
    if not (card.out and host.by_card[id]) then host.by_card[id] = card end
    if not card.out and is_whole(host, gpu) then host.cards[#host.cards + 1] = card end
  end
  return host.cards
end

-- Returns whether a window could have its GPUs if nobody used them.
local function is_possible(host, window)
  local left = 0
  if window.cards then
    for _, uuid in ipairs(window.cards) do left = left + (host.by_card[uuid] and not host.by_card[uuid].out and 1 or 0) end
    return left == #window.cards
  end
  for _, card in ipairs(cards(host)) do left = left + (could_meet(card.vendor, window.vendor) and 1 or 0) end
  return left >= window.count
end

-- Returns the window of maintenance that has begun with the GPUs that are still drained for maintenance.
local function with_maintained(host, open, window)
  local kept = {id = window.id, begin_ms = window.begin_ms, end_ms = window.end_ms, drain = window.drain, cards = {}}
  for _, uuid in ipairs(window.cards) do
    local gpu = host.by_card[uuid] and host.by_card[uuid].gpu
    if gpu and is_maintained(host, open, gpu) then kept.cards[#kept.cards + 1] = uuid end
  end
  return kept
end

-- Returns the windows that keep GPUs from others: not those that are due and would wait for an administrator, which
-- maintenance does not.
local function windows(host)
  local found, open = {}, open_maintenance(host)
  for _, window in ipairs(promised(host)) do
    if window.begun then window = with_maintained(host, open, window) end
    window.at_ms = math.max(window.begin_ms, now_ms)
    if window.end_ms > now_ms and (window.begin_ms > now_ms or window.drain or is_possible(host, window)) then found[#found + 1] = window end
  end
  return found
end

-- Counts the GPUs of windows without names that are open, by their vendor.
local function count_open(open, window, sign)
  local vendor = window.vendor or 'any'
  open[vendor] = open[vendor] + sign * window.count
end

-- Returns how many GPUs are left for a window without names, apart from the open windows. `place` has for each card the
-- first window that names it and has not ended.
local function left_for(host, window, open, place)
  local left = 0
  for number, card in ipairs(cards(host)) do
    if could_meet(card.vendor, window.vendor) then
      while card.named[place[number]] and card.named[place[number]].end_ms <= window.at_ms do place[number] = place[number] + 1 end
      local named = card.named[place[number]]
      if card.free_ms <= window.at_ms and not (named and named.begin_ms < window.end_ms) then left = left + 1 end
    end
  end
  if window.vendor then return left - open[window.vendor] - open.any end
  return left - open.nvidia - open.amd - open.any
end

-- Says of a GPU, and of what is held with it, that a window names it: of a card its instances, of an instance its card.
local function name_card(host, uuid, window)
  local card = host.by_card[uuid]
  if not card then return end
  local whole = card.gpu.index >= FIRST_INSTANCE and host.by_index[card_of(card.gpu.index)]
  local together = {card.gpu, whole or nil}
  for _, instance in ipairs(instances_of(host, card.gpu.index)) do together[#together + 1] = instance end
  for _, gpu in ipairs(together) do table.insert(host.by_card[identity_of(gpu)].named, window) end
end

-- Returns for each window without names when it begins, and how many GPUs are left then, in the order of time. Negative:
-- so many are missing. `more` is a window that is tried.
local function margins(host, more)
  local counted, ending, found, place, open = {}, {}, {}, {}, {any = 0, nvidia = 0, amd = 0}
  cards(host)
  local all = windows(host)
  if more then
    all[#all + 1] = more
    table.sort(all, function(a, b) return a.begin_ms < b.begin_ms end)
  end
  for _, card in pairs(host.by_card) do card.named = {} end
  for number in ipairs(host.cards) do place[number] = 1 end
  for _, window in ipairs(all) do
    if not window.cards then counted[#counted + 1], ending[#ending + 1] = window, window end
    for _, uuid in ipairs(window.cards or {}) do name_card(host, uuid, window) end
  end
  table.sort(ending, function(a, b) return a.end_ms < b.end_ms end)
  local begun, ended = 1, 1
  for _, window in ipairs(counted) do
    while counted[begun] and counted[begun].at_ms <= window.at_ms do
      count_open(open, counted[begun], 1)
      begun = begun + 1
    end
    while ending[ended].end_ms <= window.at_ms do
      count_open(open, ending[ended], -1)
      ended = ended + 1
    end
    found[#found + 1] = {at_ms = window.at_ms, end_ms = window.end_ms, vendor = window.vendor, left = left_for(host, window, open, place), of = window}
  end
  return found
end

-- Returns how many GPUs are left for a window without names if it begins later, at `at_ms`.
local function left_at(host, window, at_ms)
  local later = {begin_ms = at_ms, at_ms = at_ms, end_ms = window.end_ms, vendor = window.vendor, count = 0}
  for _, margin in ipairs(margins(host, later)) do
    if margin.of == later then return margin.left end
  end
end

-- Opens the promises of a host; it is called again when a reservation has changed.
local function weigh(host)
  if not host.margins then host.margins, host.rooms = margins(host), {} end
  return host.margins
end

-- Returns how many GPUs of a vendor (of any without one) can be taken until `end_ms`, in addition to what is taken.
-- Negative: so many are missing.
local function room(host, vendor, end_ms)
  local name = (vendor or '') .. end_ms
  local most = weigh(host) and host.rooms[name]
  if most then return most end
  most = math.huge
  for _, margin in ipairs(host.margins) do
    if margin.at_ms >= end_ms then break end
    if could_meet(margin.vendor, vendor) then most = math.min(most, margin.left) end
  end
  host.rooms[name] = most
  return most
end

-- Returns whether a request is bound by promises: not the booking that begins, and not the job of a scheduler, which has
-- placed it on these GPUs without knowing of bookings and would place it there again.
local SCHEDULERS = {slurm = true, pbs = true, kubernetes = true}
local function is_bound(host, request) return host.promised and not request.booking and not SCHEDULERS[request.kind] end

-- Returns when the first window begins that names a GPU, other than that of this booking; or infinity.
local function named_from(host, gpu, booking)
  local card = weigh(host) and host.by_card[identity_of(gpu)]
  for _, window in ipairs(card and card.named or {}) do
    if window.id ~= booking then return window.begin_ms end
  end
  return math.huge
end

-- Returns whether a request can have a GPU until `end_ms` as far as windows are concerned that name it.
local function is_unnamed(host, gpu, end_ms, request)
  return not host.promised or SCHEDULERS[request.kind] or named_from(host, gpu, request.booking) >= end_ms
end

-- Returns whether a GPU is among those that are promised as a number: it is a whole one, and its user's processes are not
-- on it already. Those count as taken, unless a window lacks GPUs (`left` is negative): it waits for that one, too.
local function is_counted(host, gpu, left) return (left < 0 or not gpu.own) and is_whole(host, gpu) end

-- Returns how many of the GPUs that were found for a request are promised to others, and how many are left. The GPUs of a
-- booking that begins are promised to it.
local function excess_of(host, request, found)
  if not is_bound(host, request) then return 0 end
  local counted, vendor, first = 0, request.vendor, true
  for _, gpu in ipairs(found) do
    local made_by = request.gpus and is_whole(host, gpu) and weigh(host) and host.by_card[identity_of(gpu)].vendor
    if made_by then
      vendor, first = (first or vendor == made_by) and made_by or nil, false
    end
  end
  local left = room(host, vendor, end_if_granted(request))
  for _, gpu in ipairs(found) do
    if is_counted(host, gpu, left) then counted = counted + 1 end
  end
  return math.max(0, counted - math.max(0, left)), left
end

-- Removes so many of the GPUs that are promised, the last ones, from those that were found.
local function leave_promised(host, found, excess, left)
  for place = #found, 1, -1 do
    if excess > 0 and is_counted(host, found[place], left) then
      table.remove(found, place)
      excess = excess - 1
    end
  end
end

-- Returns the latest end with which a request could have its GPUs now, or nil. `found` are those that it could have if
-- nothing was promised.
local function latest_end(host, request, found, need)
  local begins, latest = {}, math.huge
  for _, gpu in ipairs(found) do begins[#begins + 1] = named_from(host, gpu) end
  if #begins < need then return nil end
  table.sort(begins)
  latest = begins[#begins - need + 1]
  for _, margin in ipairs(weigh(host)) do
    local may = math.max(0, margin.left)
    for _, gpu in ipairs(found) do may = may + (is_counted(host, gpu, margin.left) and 0 or 1) end
    if could_meet(margin.vendor, request.vendor) and may < need then
      latest = math.min(latest, margin.at_ms)
      break
    end
  end
  return latest > now_ms and latest < math.huge and latest or nil
end
