-- Whether reservations are used, and for how long one has not been.

-- Returns whether a reservation's user uses this GPU or is presumed to: used, idle, or unknown.
local function use_on(rules, gpu, record)
  if not gpu or gpu.state ~= 'ok' then return 'unknown' end
  if gpu.exempt['uid:' .. whole(record.uid)] then return 'used' end
  local use = 'idle'
  for _, row in ipairs(gpu.users) do
    for _, member in ipairs(row.members) do
      if has_right(rules, gpu, record, member) then return 'used' end
      if not known(member.person) then use = 'unknown' end
    end
    if #row.members == 0 then use = 'unknown' end
  end
  return use
end

local function use_of(rules, record, by_index)
  local use = 'idle'
  for _, index in ipairs(record.gpus) do
    local on = use_on(rules, by_index[index], record)
    if on == 'used' then return on end
    if on == 'unknown' then use = on end
  end
  return use
end

-- Returns whether a reservation that was booked was not used for so long since it began that it must be released. If the
-- use is unknown, or after a gap between scans, that time starts again.
local function is_no_show(rules, record, use, gap)
  local since = record.unused_ms
  if use == 'used' then
    since = nil
  elseif use == 'unknown' or gap then
    since = now_ms
  end
  if since ~= record.unused_ms then
    record.unused_ms = since
    save(record)
  end
  return since and now_ms - since >= rules.no_show_ms
end

-- Tracks for how long a reservation has been idle; returns whether it must be released for that. If the use is
-- unknown, or after a gap between scans, both the idle time and the time until the release start again.
local function track_idleness(rules, record, use, gap)
  local since, told, until_ms = record.idle_ms, record.idle_told_ms, record.idle_until_ms
  local releases = record.kind == 'manual' and rules.idle_release_ms > 0
  if use == 'idle' then
    since = not gap and since or now_ms
    if now_ms - since >= rules.idle_after_ms and (not told or (releases and not until_ms)) then
      told, until_ms = now_ms, releases and now_ms + rules.idle_release_ms or nil
      publish('reservation.idle', 'reservation/' .. record.id,
        facts_of(record, {idle = rfc3339(since), deadline = until_ms and rfc3339(until_ms)}))
    end
  else
    since = nil
    if use == 'used' and told then publish('reservation.used', 'reservation/' .. record.id, facts_of(record)) end
    if use ~= 'unknown' then told, until_ms = nil, nil end
  end
  if since ~= record.idle_ms or told ~= record.idle_told_ms or until_ms ~= record.idle_until_ms then
    record.idle_ms, record.idle_told_ms, record.idle_until_ms = since, told, until_ms
    save(record)
  end
  return releases and since and until_ms and now_ms >= math.max(until_ms, since + rules.idle_release_ms)
end
