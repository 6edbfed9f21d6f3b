-- observe: stores one scan of every GPU; opens, updates and closes violations.
-- Use becomes a violation when good scans have seen it for confirm_ms in total. Use that comes back within
-- BURST_WINDOW_MS is added up. A scan that failed (error, unknown) neither opens nor closes anything.
-- If a reservation's process has ended and none of its processes is left, it is released and the queue is served.
-- If the user of a reservation does not use its GPUs, an event says so, and a manual reservation may be released.
-- Keys: sequence events scan gpus reservations queue affinity ledger violations open pending usage gpu...
-- Args: host rules confirm_ms stale_ms age_ms scan ended former
-- Returns: now_ms due_ms opened closed freed granted; false if Redis has another card than `former` at an index: then nothing was changed
-- Events: gpu.changed gpu.failed gpu.recovered scanner.resumed violation.opened violation.updated violation.closed reservation.created reservation.idle reservation.used reservation.released
local violations, open_key, pending_key = KEYS[9], KEYS[10], KEYS[11]
local confirm_ms, stale_ms, age_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local scan, rules = cjson.decode(ARGV[6]), cjson.decode(ARGV[2])
check_fencing_token(rules)
local FIRST, no_process_left = 13, {}  -- The open violations on GPUs that the driver does not list.
for _, field in ipairs(cjson.decode(ARGV[7])) do no_process_left[field] = true end
local BURST_WINDOW_MS = 600 * 1000  -- Use that comes back within this time is added up.
local RETURNS = 4  -- The minimum number of returns for a violation, however long the gaps between scans are.
local due_ms, opened, closed, freed = 0, 0, 0, 0
local last = redis.call('HMGET', KEYS[3], 'at_ms', 'stalled_ms')
local former, stored = cjson.decode(ARGV[8]), {}
for position, gpu in ipairs(scan) do
  local old = pairs_of(KEYS[FIRST - 1 + position])
  stored[position] = old
  if old.uuid and old.uuid ~= gpu.uuid and former ~= cjson.null and old.uuid ~= former[position] then return false end
end

local function publish_violation(verb, gpu, key, record, extra, id)
  append_event({KEYS[2], violations}, ARGV[1], id or next_id(KEYS[1]), 'canhazgpu.violation.' .. verb,
    'violation/' .. record.id, violation_data(gpu.index, key, record, extra or (record.holder and quoted_note(KEYS[5], gpu.held))))
end

local function close(gpu, field, key, record, reason)
  redis.call('HDEL', open_key, field)
  closed = closed + 1
  publish_violation('closed', gpu, key, record, {reason = reason, closed = now,
    duration_s = math.max(0, math.floor((now_ms - record.since_ms) / 1000))})
end

-- Returns the use of a row by these of its members: `body` is JSON; a new `signature` causes an update event.
local function use_by(row, members)
  local head, said = head_of(row, members)
  local processes, shapes, memory_mb = {}, {}, 0
  for position, member in ipairs(members) do
    processes[position], shapes[position] = member.process, member.shape
    memory_mb = memory_mb + (member.memory_mb or 0)
  end
  return {body = string.sub(said, 1, -2) .. ',"processes":[' .. table.concat(processes, ',') .. ']}', identity = head.identity,
    signature = head.identity .. head.known_by .. table.concat(shapes, ' '), memory_mb = #members > 0 and memory_mb or row.memory_mb}
end

local function follow_open(gpu, field, key, use, kind, holder, record)
  local before = cjson.encode(record)
  local changed = record.kind ~= kind or record.identity ~= use.identity or (holder or nil) ~= record.holder
  record.kind, record.holder, record.identity, record.body, record.unused_ms = kind, holder, use.identity, use.body, nil
  record.memory_mb, record.peak_mb = use.memory_mb, math.max(record.peak_mb, use.memory_mb)
  if changed or (record.signature ~= use.signature and due_for_update(record)) then
    record.signature, record.updates, record.updated_ms = use.signature, (record.updates or 0) + 1, now_ms
    publish_violation('updated', gpu, key, record)
  end
  local after = cjson.encode(record)
  if after ~= before then redis.call('HSET', open_key, field, after) end
end

-- Adds a scan that sees the candidate; `good_ms` is the last good scan of the GPU. Use that comes back counts
-- from that scan on, but one return is never enough for a violation.
local function add_scan(candidate, good_ms)
  if not candidate then return {since_ms = now_ms, used_ms = 0, seen_ms = now_ms} end
  local returned = candidate.seen_ms < good_ms
  local more = returned and math.min(now_ms - good_ms, confirm_ms / RETURNS) or now_ms - candidate.seen_ms
  if returned then candidate.since_ms = now_ms end
  candidate.used_ms, candidate.seen_ms = candidate.used_ms + math.max(0, more), now_ms
  return candidate
end

-- Stores use without a right to the GPU: as a candidate, as a new violation, or in the open violation.
local function record_use(gpu, field, key, use, kind, holder, record, candidate, good_ms)
  if record then return follow_open(gpu, field, key, use, kind, holder, record) end
  local known_before = candidate
  candidate = add_scan(candidate, good_ms)
  if known_before and candidate.used_ms >= confirm_ms then
    local id = next_id(KEYS[1])
    local fresh = {id = 'v' .. id, kind = kind, holder = holder, signature = use.signature, identity = use.identity, body = use.body,
      since = rfc3339(candidate.since_ms), since_ms = candidate.since_ms, memory_mb = use.memory_mb, peak_mb = use.memory_mb}
    redis.call('HDEL', pending_key, field)
    redis.call('HSET', open_key, field, cjson.encode(fresh))
    opened = opened + 1
    return publish_violation('opened', gpu, key, fresh, nil, id)
  end
  redis.call('HSET', pending_key, field, whole(candidate.since_ms) .. ':' .. whole(candidate.used_ms) .. ':' .. whole(candidate.seen_ms))
  local due = now_ms + confirm_ms - candidate.used_ms
  if due_ms == 0 or due < due_ms then due_ms = due end
end

if last[2] then
  publish('scanner.resumed', 'scanner', cjson.encode({stalled_s = math.floor((now_ms - tonumber(last[2])) / 1000)}))
  redis.call('HDEL', KEYS[3], 'stalled_ms', 'stalled_reason', 'stalled_remedy')
end
redis.call('HSET', KEYS[3], 'at_ms', whole(now_ms), 'began_ms', whole(now_ms - age_ms))

-- Stores the usage of a GPU and publishes changes; `old` is the stored hash.
local function store_gpu(gpu, key, old)
  local subject = 'gpu/' .. gpu.index
  local summary = old.holder and splice({holder = old.holder_user}, gpu.summary) or gpu.summary
  if not old.signature then redis.call('ZADD', KEYS[4], gpu.index, gpu.index) end
  local released_ms = tonumber(old.last_released or 0)
  if old.unseen and released_ms > now_ms then  -- The clock was set back: the next scan begins after it.
    redis.call('HSET', key, 'last_released', whole(now_ms))
  elseif old.unseen and now_ms - age_ms >= released_ms then
    redis.call('HDEL', key, 'unseen')
  end
  if old.usage ~= gpu.usage then redis.call('HSET', key, 'usage', gpu.usage) end
  if old.state == 'ok' and gpu.state ~= 'ok' and last[1] then redis.call('HSET', key, 'ok_ms', last[1]) end
  if old.state ~= gpu.state or old.uuid ~= gpu.uuid then redis.call('HSET', key, 'state', gpu.state, 'uuid', gpu.uuid) end
  local passed_ms = now_ms - tonumber(old.changed_ms or 0)
  local changes = level_now(tonumber(old.changes or 0), tonumber(old.changed_ms or 0)) + 1
  local may_publish = changes <= FREE_CHANGES or old.uuid ~= gpu.uuid
  if may_publish and gpu.state == 'error' and not old.failed then
    redis.call('HSET', key, 'failed', '1')
    publish('gpu.failed', subject, summary)
  elseif may_publish and gpu.state == 'ok' and old.failed then
    redis.call('HDEL', key, 'failed')
    publish('gpu.recovered', subject, summary)
  end
  local new_pids = old.signature ~= gpu.signature and passed_ms >= UPDATE_MS
  if (may_publish and old.outline ~= gpu.outline) or new_pids then
    redis.call('HSET', key, 'outline', gpu.outline, 'signature', gpu.signature, 'changed_ms', whole(now_ms), 'changes', string.format('%.3f', changes))
    publish('gpu.changed', subject, summary)
  end
end

-- Returns the reservation that holds a GPU, with the fields that decide about ownership, or nil.
local function holder_of(old)
  local boot, up = string.match(old.holder_up or '', '^(%S+) (%d+)$')
  return old.holder and {id = old.holder, user = old.holder_user, uid = tonumber(old.holder_uid), login_uid = tonumber(old.holder_login),
    boot = boot, up = tonumber(up), started_ms = tonumber(old.holder_since) or 0}
end

-- Returns the members of a row that use the GPU without a right to it, or nil. If a GPU is reserved, memory without
-- a process is not held against anybody, unless the holder has disowned it.
local function without_right(old, row)
  local holder, found = holder_of(old), {}
  if not holder then return row.members end
  if row.key == 'unknown' and not (old.disowned and cjson.decode(old.disowned)[row.key]) then return nil end
  for _, member in ipairs(row.members) do
    if not has_right(rules, old, holder, member) then found[#found + 1] = member end
  end
  if #found > 0 or #row.members == 0 then return found end
end

local function overstays(old, row)
  local uid, login_uid = tonumber(old.expired_uid), tonumber(old.expired_login)
  for _, member in ipairs(row.members) do
    if of_user(member, uid, login_uid) then return true end
  end
  return false
end

-- Closes a violation that was not seen: now, or when it counts as ended. Returns whether it was closed.
local function close_unseen(gpu, key, old, field, text, at_once, reason)
  local name, record = string.match(field, '/(.*)$'), cjson.decode(text)
  if at_once or has_ended(key, old, name, record) then
    close(gpu, field, name, record, reason)
    return true
  elseif not record.unused_ms then
    record.unused_ms = now_ms
    redis.call('HSET', open_key, field, cjson.encode(record))
  end
end

local open, pending = {}, pairs_of(pending_key)
for field, text in pairs(pairs_of(open_key)) do open[field] = violation_of(text) and text end
for position, gpu in ipairs(scan) do
  local key, prefix, old = KEYS[FIRST - 1 + position], gpu.index .. '/', stored[position]
  store_gpu(gpu, key, old)
  gpu.disowned, gpu.held = old.disowned, old.holder
  if gpu.state == 'ok' then
    local good_ms = tonumber((old.state == 'ok' and last[1]) or old.ok_ms or now_ms)
    local another = old.uuid and old.uuid ~= gpu.uuid
    local rows, still = {}, false
    for _, row in ipairs(old.unmanaged and {} or gpu.users) do
      rows[prefix .. row.key] = row
      still = still or (old.expired_uid and overstays(old, row))
    end
    if old.expired_uid and not still and now_ms - age_ms > tonumber(old.last_released or 0) then
      redis.call('HDEL', key, 'expired_uid', 'expired_login')
    end
    fold_hints(prefix, rows, old)
    go_on(prefix, rows, open, pending)
    for field, text in pairs(open) do
      if string.sub(field, 1, #prefix) == prefix and (another or not rows[field]) then
        local exempted = old.unmanaged or gpu.exempt[string.sub(field, #prefix + 1)]
        if close_unseen(gpu, key, old, field, text, another or exempted, exempted and 'exempted' or 'stopped') then open[field] = nil end
      end
    end
    for field, text in pairs(pending) do
      local candidate = candidate_of(text)
      if string.sub(field, 1, #prefix) == prefix and (another or not candidate or now_ms - good_ms > stale_ms
          or now_ms - candidate.seen_ms > BURST_WINDOW_MS) then
        redis.call('HDEL', pending_key, field)
        pending[field] = nil
      end
    end
    for field, row in pairs(rows) do
      local record, members = open[field] and cjson.decode(open[field]), without_right(old, row)
      note_user(gpu, old, row, members)
      if members then
        local kind = old.holder and 'trespass' or (old.expired_uid and overstays(old, row) and 'overstaying') or 'unreserved'
        record_use(gpu, field, row.key, use_by(row, members), kind, old.holder and old.holder_user, record,
          candidate_of(pending[field]), good_ms)
      else
        if record then close(gpu, field, row.key, record, 'reserved') end
        redis.call('HDEL', pending_key, field)
      end
    end
  else
    for field, text in pairs(open) do
      if no_process_left[field] and string.sub(field, 1, #prefix) == prefix then close_unseen(gpu, key, old, field, text, false, 'stopped') end
    end
  end
  log_use(KEYS[12], key, gpu, old, tonumber(last[1] or nil), rules)
end

-- Returns whether a reservation's user uses this GPU or is presumed to: used, idle, or unknown.
local function use_on(gpu, record)
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

local function use_of(record, by_index)
  local use = 'idle'
  for _, index in ipairs(record.gpus) do
    local on = use_on(by_index[index], record)
    if on == 'used' then return on end
    if on == 'unknown' then use = on end
  end
  return use
end

-- Tracks for how long a reservation has been idle; returns whether it must be released for that. If the use is
-- unknown, or after a gap between scans, both the idle time and the time until the release start again.
local function track_idleness(record, use, gap)
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

local settles, over, by_index = redis.call('HLEN', KEYS[6]) > 0, {}, {}
local gap = not last[1] or now_ms - tonumber(last[1]) > rules.stale_ms
for _, gpu in ipairs(scan) do by_index[gpu.index] = gpu end
for _, text in ipairs(redis.call('HVALS', KEYS[5])) do
  if string.find(text, '"ended_ms"', 1, true) then
    settles = true
  elseif rules.idle_after_ms > 0 or string.find(text, '"idle_', 1, true) then
    local record = cjson.decode(text)
    local use = rules.idle_after_ms > 0 and use_of(record, by_index) or 'not asked'
    if track_idleness(record, use, gap) then over[#over + 1] = record.id end
  end
end
local granted = {}
if settles or #over > 0 then
  local host = open_host(FIRST)
  for _, record in pairs(every_record(host)) do
    if record.ended_ms and record.ended_ms > now_ms then  -- The clock was set back.
      record.ended_ms = now_ms
      save(record)
    elseif record.ended_ms and not still_used(host, record) then
      release(host, record, record.gpus, 'exited')
      freed = freed + 1
    end
  end
  for _, id in ipairs(over) do release(host, host.records[id], host.records[id].gpus, 'idle') end
  if not host.incomplete then serve_queue(host) end
  granted = host.granted
end
return {now_ms, due_ms, opened, closed, freed + #over, granted}
