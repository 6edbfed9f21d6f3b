-- extend: extends a user's manual reservations: all of them, or those with given GPUs.
-- `most_ms` is the maximum remaining time. With `cut` the extension is shortened to it; otherwise it is refused.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules request
-- Returns: JSON: code (extended, not-yours, none, limit, promised, again), extended, blocked, until_ms
-- Events: reservation.extended
local host, request = open_host(10), cjson.decode(ARGV[3])
local before = redis.call('GET', KEYS[9])
if before then return before end
if host.incomplete then return cjson.encode({code = 'again'}) end
follow_cards(host, request)

local chosen, blocked, extended = {}, {}, {}
for _, index in ipairs(request.gpus or {}) do
  local gpu = host.by_index[index]
  local record = gpu and gpu.holder and host.records[gpu.holder]
  if record and is_own(record, request) and record.kind == 'manual' then
    chosen[record.id] = record
  else
    blocked[#blocked + 1] = blocked_by(index, record, request)
  end
end
if #blocked > 0 then return save_reply(host, {code = 'not-yours', blocked = blocked}) end
if not request.gpus then
  for id, record in pairs(every_record(host)) do
    if is_own(record, request) and record.kind == 'manual' then chosen[id] = record end
  end
end
local most_ms = math.min(request.most_ms or LONGEST_MS, LONGEST_MS)
local more_ms = {}
for id, record in pairs(chosen) do
  local left_ms = (record.expires_ms or now_ms) - now_ms
  more_ms[id] = request.cut and math.min(request.add_ms, most_ms - left_ms) or request.add_ms
  if more_ms[id] <= 0 or left_ms + more_ms[id] > most_ms then
    return save_reply(host, {code = 'limit', gpus = record.gpus, left_ms = left_ms, most_ms = most_ms})
  end
end

-- Returns whether a booking that is open at `from_ms` and lacks GPUs would still lack them then.
local function waits_at(margin, from_ms)
  return margin.at_ms < from_ms and margin.end_ms > from_ms and left_at(host, margin.of, from_ms) < 0
end

-- Returns when the first booking begins, or would get its GPUs late, that would lack a GPU of this reservation, which
-- ended at `from_ms` before.
local function promised_from(record, from_ms)
  local first_ms, vendors, whole = math.huge, {}, false
  for _, index in ipairs(record.gpus) do
    first_ms = math.min(first_ms, named_from(host, host.by_index[index]))
    if is_whole(host, host.by_index[index]) then
      vendors[host.by_card[identity_of(host.by_index[index])].vendor], whole = true, true
    end
  end
  for _, margin in ipairs(host.margins) do
    if whole and margin.left < 0 and (not margin.vendor or vendors[margin.vendor]) then
      if margin.at_ms >= from_ms then first_ms = math.min(first_ms, margin.at_ms) end
      if waits_at(margin, from_ms) then first_ms = math.min(first_ms, from_ms) end
    end
  end
  return first_ms
end

local was_ms = {}
for id, record in pairs(chosen) do
  was_ms[id] = record.expires_ms or now_ms
  record.expires_ms = was_ms[id] + more_ms[id]
end
for id, record in pairs(host.promised and chosen or {}) do
  local until_ms = promised_from(record, was_ms[id])
  if until_ms < record.expires_ms then return save_reply(host, {code = 'promised', gpus = record.gpus, until_ms = until_ms}) end
end
for id, record in pairs(chosen) do
  save(record)
  publish('reservation.extended', 'reservation/' .. record.id, facts_of(record))
  extended[#extended + 1] = record
end
return save_reply(host, {code = #extended > 0 and 'extended' or 'none', extended = extended})
