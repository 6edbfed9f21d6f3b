-- observe: stores one scan of every GPU; opens, updates and closes violations.
-- Use becomes a violation when good scans have seen it for confirm_ms in total. Use that comes back within
-- BURST_WINDOW_MS is added up. A scan that failed (error, unknown) neither opens nor closes anything.
-- If a reservation's process has ended and none of its processes is left, it is released and the queue is served.
-- If the user of a reservation does not use its GPUs, an event says so, and a manual reservation may be released.
-- If this scan is the same as the last one, which changed nothing, and nothing else has changed since, its GPUs are not
-- judged again, except once a minute (`settled`).
-- Keys: sequence events scan gpus reservations queue affinity ledger violations open pending usage gpu...
-- Args: host rules confirm_ms stale_ms age_ms digests scan ended former
-- Returns: now_ms due_ms opened closed freed granted; false if Redis has another card than `former` at an index: then nothing was changed
-- Events: gpu.changed gpu.failed gpu.recovered scanner.resumed violation.opened violation.updated violation.closed reservation.created reservation.idle reservation.used reservation.released
local violations, open_key, pending_key = KEYS[9], KEYS[10], KEYS[11]
local confirm_ms, stale_ms, age_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local rules = check_fencing_token(cjson.decode(ARGV[2]))
local FIRST, no_process_left = 13, {}  -- The open violations on GPUs that the driver does not list.
if ARGV[8] ~= '[]' then
  for _, field in ipairs(cjson.decode(ARGV[8])) do no_process_left[field] = true end
end
local BURST_WINDOW_MS = 600 * 1000  -- Use that comes back within this time is added up.
local RETURNS = 4  -- The minimum number of returns for a violation, however long the gaps between scans are.
local due_ms, opened, closed, freed = 0, 0, 0, 0
local last = redis.call('HMGET', KEYS[3], 'at_ms', 'stalled_ms', 'settled')
local last_ms = tonumber(last[1] or nil)
local pending = by_gpu(pairs_of(pending_key), candidate_of)

local longest_ms = math.min(stale_ms, rules.stale_ms)
local settled = not last[2] and is_settled(last[3], last_ms, ARGV[6], pending, confirm_ms, longest_ms)
local former, open, stored, scan, divided = ARGV[9] ~= 'null' and cjson.decode(ARGV[9]), nil, {}, {}, {}
if not settled then
  scan = split_scan(ARGV[7])
  open = by_gpu(pairs_of(open_key), violation_of)
  for position, gpu in ipairs(scan) do
    local old = pairs_of(KEYS[FIRST - 1 + position])
    stored[position] = old
    parse_gpu(gpu)
    if gpu.index >= FIRST_INSTANCE then divided[card_of(gpu.index)] = true end
    if former and old.uuid and old.uuid ~= gpu.uuid and old.uuid ~= former[position] then return false end
  end
end

local function publish_violation(verb, gpu, key, record, extra, id)
  append_event({KEYS[2], violations}, ARGV[1], id or next_id(KEYS[1]), 'canhazgpu.violation.' .. verb,
    'violation/' .. record.id, violation_data(gpu.index, key, record, extra or (record.holder and quoted_note(KEYS[5], gpu.held))))
end

local function close(gpu, field, key, record, reason)
  redis.call('HDEL', open_key, field)
  closed = closed + 1
  publish_violation('closed', gpu, key, record, {reason = reason, closed = now(),
    duration_s = math.max(0, math.floor((now_ms - record.since_ms) / 1000))})
end

-- Returns the use of a row by these of its members: `body` is JSON; a new `signature` causes an update event.
local function use_by(gpu, row, members)
  local head, said = head_of(row, members)
  local processes, shapes, memory_mb = {}, {}, 0
  for position, member in ipairs(members) do
    processes[position], shapes[position] = process_of(gpu, member), member.shape
    memory_mb = memory_mb + (member.memory_mb or 0)
  end
  return {body = string.sub(said, 1, -2) .. ',"processes":[' .. table.concat(processes, ',') .. ']}', identity = head.identity,
    signature = head.identity .. head.known_by .. table.concat(shapes, ' '), memory_mb = #members > 0 and memory_mb or row.memory_mb}
end

local function follow_open(gpu, field, key, use, kind, holder, record)
  local changed = record.kind ~= kind or record.identity ~= use.identity or (holder or nil) ~= record.holder
  local more = record.signature ~= use.signature and due_for_update(record)
  if not (changed or more or record.unused_ms or record.body ~= use.body or record.memory_mb ~= use.memory_mb) then return end
  record.kind, record.holder, record.identity, record.body, record.unused_ms = kind, holder, use.identity, use.body, nil
  record.memory_mb, record.peak_mb = use.memory_mb, math.max(record.peak_mb, use.memory_mb)
  if changed or more then
    record.signature, record.updates, record.updated_ms = use.signature, (record.updates or 0) + 1, now_ms
    publish_violation('updated', gpu, key, record)
  end
  redis.call('HSET', open_key, field, cjson.encode(record))
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

local candidates = {}  -- Fields and values of those that this scan saw, written at once.

local function store_candidate(field, candidate)
  candidates[#candidates + 1] = field
  candidates[#candidates + 1] = string.format('%.0f:%.0f:%.0f', candidate.since_ms, candidate.used_ms, candidate.seen_ms)
  local due = now_ms + confirm_ms - candidate.used_ms
  if due_ms == 0 or due < due_ms then due_ms = due end
end

-- Stores use without a right to the GPU: as a candidate, as a new violation, or in the open violation. Returns whether it
-- was a candidate and is one still.
local function record_use(gpu, field, row, members, kind, holder, record, candidate, good_ms)
  if record then
    follow_open(gpu, field, row.key, use_by(gpu, row, members), kind, holder, record)
    return false
  end
  local known_before = candidate
  candidate = add_scan(candidate, good_ms)
  if known_before and candidate.used_ms >= confirm_ms then
    local id, use = next_id(KEYS[1]), use_by(gpu, row, members)
    local fresh = {id = 'v' .. id, kind = kind, holder = holder, signature = use.signature, identity = use.identity, body = use.body,
      since = rfc3339(candidate.since_ms), since_ms = candidate.since_ms, memory_mb = use.memory_mb, peak_mb = use.memory_mb}
    redis.call('HDEL', pending_key, field)
    redis.call('HSET', open_key, field, cjson.encode(fresh))
    opened = opened + 1
    publish_violation('opened', gpu, row.key, fresh, nil, id)
    return false
  end
  store_candidate(field, candidate)
  return known_before ~= nil
end

if last[2] then
  publish('scanner.resumed', 'scanner', cjson.encode({stalled_s = math.floor((now_ms - tonumber(last[2])) / 1000)}))
  redis.call('HDEL', KEYS[3], 'stalled_ms', 'stalled_reason', 'stalled_remedy')
end
redis.call('HSET', KEYS[3], 'at_ms', whole(now_ms), 'began_ms', whole(now_ms - age_ms))

-- Stores the usage of a GPU and publishes changes; `old` is the stored hash. Returns whether nothing is to be changed.
local function store_gpu(gpu, key, old)
  if not old.signature then redis.call('ZADD', KEYS[4], gpu.index, gpu.index) end
  if old.unseen then
    local released_ms = tonumber(old.last_released or 0)
    if released_ms > now_ms then  -- The clock was set back: the next scan begins after it.
      redis.call('HSET', key, 'last_released', whole(now_ms))
    elseif now_ms - age_ms >= released_ms then
      redis.call('HDEL', key, 'unseen')
    end
  end
  if old.usage ~= gpu.usage then redis.call('HSET', key, 'usage', gpu.usage) end
  if old.state == 'ok' and gpu.state ~= 'ok' and last[1] then redis.call('HSET', key, 'ok_ms', last[1]) end
  if old.state ~= gpu.state or old.uuid ~= gpu.uuid then redis.call('HSET', key, 'state', gpu.state, 'uuid', gpu.uuid) end
  local has_failed, recovered = gpu.state == 'error' and not old.failed, gpu.state == 'ok' and old.failed
  local is_other, new_pids = old.outline ~= gpu.outline, old.signature ~= gpu.signature
  if not (has_failed or recovered or is_other or new_pids) then
    return old.usage == gpu.usage and old.state == gpu.state and old.uuid == gpu.uuid and not old.unseen
  end
  local subject = 'gpu/' .. gpu.index
  local summary = old.holder and splice({holder = old.holder_user}, summary_of(gpu)) or summary_of(gpu)
  local changes = level_now(tonumber(old.changes or 0), tonumber(old.changed_ms or 0)) + 1
  local may_publish = changes <= FREE_CHANGES or old.uuid ~= gpu.uuid
  if may_publish and has_failed then
    redis.call('HSET', key, 'failed', '1')
    publish('gpu.failed', subject, summary)
  elseif may_publish and recovered then
    redis.call('HDEL', key, 'failed')
    publish('gpu.recovered', subject, summary)
  end
  if (may_publish and is_other) or (new_pids and now_ms - tonumber(old.changed_ms or 0) >= UPDATE_MS) then
    redis.call('HSET', key, 'outline', gpu.outline, 'signature', gpu.signature, 'changed_ms', whole(now_ms), 'changes', string.format('%.3f', changes))
    publish('gpu.changed', subject, summary)
  end
end

-- Closes a violation that was not seen: now, or when it counts as ended. Returns whether it was closed.
local function close_unseen(gpu, key, old, field, record, at_once, reason)
  local name = string.match(field, '/(.*)$')
  if at_once or has_ended(key, old, name, record) then
    close(gpu, field, name, record, reason)
    return true
  elseif not record.unused_ms then
    record.unused_ms = now_ms
    redis.call('HSET', open_key, field, cjson.encode(record))
  end
end

-- Stores what a scan that succeeded saw of a GPU. Returns whether it changed nothing but the times of
-- candidates.
local function judge_use(gpu, key, old, open, pending)
  local prefix, rows, still, unchanged, advanced = gpu.index .. '/', {}, false, next(open) == nil, 0
  local good_ms = (old.state == 'ok' and last_ms) or tonumber(old.ok_ms or now_ms)
  local another = old.uuid and old.uuid ~= gpu.uuid
  for _, row in ipairs(old.unmanaged and {} or gpu.users) do
    rows[prefix .. row.key] = row
    still = still or (old.expired_uid and overstays(old, row))
  end
  if old.expired_uid and not still and now_ms - age_ms > tonumber(old.last_released or 0) then
    redis.call('HDEL', key, 'expired_uid', 'expired_login')
  end
  unchanged = not fold_hints(prefix, rows, old) and unchanged
  go_on(prefix, rows, open, pending)
  for field, record in pairs(open) do
    if record and (another or not rows[field]) then
      local exempted = old.unmanaged or gpu.exempt[string.sub(field, #prefix + 1)]
      if close_unseen(gpu, key, old, field, record, another or exempted, exempted and 'exempted' or 'stopped') then open[field] = nil end
    end
  end
  for field, candidate in pairs(pending) do
    if another or not candidate or now_ms - good_ms > stale_ms or now_ms - candidate.seen_ms > BURST_WINDOW_MS then
      redis.call('HDEL', pending_key, field)
      pending[field] = nil
    end
  end
  for field, row in pairs(rows) do
    local record, members = open[field], without_right(rules, old, row)
    note_user(gpu, old, row, members)
    if members then
      local kind = old.holder and 'trespass' or (old.expired_uid and overstays(old, row) and 'overstaying') or 'unreserved'
      local is_known = record_use(gpu, field, row, members, kind, old.holder and old.holder_user, record, pending[field], good_ms)
      unchanged, advanced = unchanged and is_known, advanced + 1
    else
      if record then close(gpu, field, row.key, record, 'reserved') end
      redis.call('HDEL', pending_key, field)
    end
  end
  for _ in pairs(pending) do advanced = advanced - 1 end
  return unchanged and advanced == 0 and not old.expired_uid
end

local steady = not settled  -- Whether this scan settles the next one.
for position, gpu in ipairs(scan) do
  local key, old, index = KEYS[FIRST - 1 + position], stored[position], gpu.index
  local unchanged = store_gpu(gpu, key, old)
  gpu.disowned, gpu.held = old.disowned, old.holder
  if gpu.state == 'ok' then
    unchanged = judge_use(gpu, key, old, open[index], pending[index]) and unchanged
  else
    unchanged = unchanged and not next(open[index]) and not next(pending[index])
    for field, record in pairs(open[index]) do
      if record and no_process_left[field] then close_unseen(gpu, key, old, field, record, false, 'stopped') end
    end
  end
  gpu.divided = divided[index]
  steady = log_use(KEYS[12], key, gpu, old, last_ms, rules) and unchanged and steady
end
if settled then
  for _, fields in pairs(pending) do
    for field, candidate in pairs(fields) do store_candidate(field, add_scan(candidate, last_ms)) end
  end
end
for first = 1, #candidates, MOST_AT_ONCE do
  redis.call('HSET', pending_key, unpack(candidates, first, math.min(first + MOST_AT_ONCE - 1, #candidates)))
end

-- Returns the GPUs of this scan by index.
local function by_index()
  local found = {}
  if settled then
    scan = split_scan(ARGV[7])
    for position, gpu in ipairs(scan) do
      parse_gpu(gpu).disowned = redis.call('HGET', KEYS[FIRST - 1 + position], 'disowned')
    end
  end
  for _, gpu in ipairs(scan) do found[gpu.index] = gpu end
  return found
end

local settles, over, gpus = redis.call('HLEN', KEYS[6]) > 0, {}, nil
local gap = not last[1] or now_ms - tonumber(last[1]) > rules.stale_ms
for _, text in ipairs(redis.call('HVALS', KEYS[5])) do
  if string.find(text, '"ended_ms"', 1, true) then
    settles = true
  elseif rules.idle_after_ms > 0 or string.find(text, '"idle_', 1, true) or string.find(text, '"unused_ms"', 1, true) then
    local record, use = record_of(text), 'not asked'
    local unused = record and record.unused_ms and rules.no_show_ms > 0
    if record and (rules.idle_after_ms > 0 or unused) then
      gpus = gpus or by_index()
      use = use_of(rules, record, gpus)
    end
    if unused and is_no_show(rules, record, use, gap) then
      over[#over + 1] = {record.id, 'no_show'}
    elseif record and track_idleness(rules, record, rules.idle_after_ms > 0 and use or 'not asked', gap) then
      over[#over + 1] = {record.id, 'idle'}
    end
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
  for _, one in ipairs(over) do release(host, host.records[one[1]], host.records[one[1]].gpus, one[2]) end
  if not host.incomplete then serve_queue(host) end
  granted = host.granted
end
if steady and next(heads) == nil then
  redis.call('HSET', KEYS[3], 'settled', settled_as(ARGV[6], #candidates / 2))
elseif last[3] and not settled then
  redis.call('HDEL', KEYS[3], 'settled')
end
return {now_ms, due_ms, opened, closed, freed + #over, granted}
