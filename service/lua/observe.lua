-- observe: takes one scan of every GPU; stores usage; opens, updates and closes violations.
-- A violation is opened only by a second good scan, at least confirm_ms after the first; a scan that
-- could not tell (error, unknown) neither opens nor closes anything.
-- An ended reservation that nothing of its own is left of is released, and the queue is gone along.
-- A reservation whose user uses none of its GPUs is told to be idle, and one made by hand may be released for it.
-- Keys: sequence events scan gpus reservations queue affinity ledger violations open pending gpu...
-- Args: host rules confirm_ms stale_ms age_ms scan
-- Returns: now_ms due_ms opened closed granted
-- Events: gpu.changed gpu.failed gpu.recovered scanner.resumed violation.opened violation.updated violation.closed reservation.created reservation.idle reservation.used reservation.released
local violations, open_key, pending_key = KEYS[9], KEYS[10], KEYS[11]
local confirm_ms, stale_ms, age_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local scan, rules = cjson.decode(ARGV[6]), cjson.decode(ARGV[2])
local FIRST = 12
local due_ms, opened, closed = 0, 0, 0

local function record_data(gpu, key, record, extra)
  local head = {violation = record.id, kind = record.kind, gpu = gpu.index, key = key, since = record.since,
    memory_mb = record.memory_mb, peak_memory_mb = record.peak_mb, holder = record.holder}
  for name, value in pairs(extra or {}) do head[name] = value end
  return splice(head, record.body)
end

local function about_violation(verb, gpu, key, record, extra, id)
  publish({KEYS[2], violations}, EVENTS_KEPT, ARGV[1], id or next_id(KEYS[1]), 'canhazgpu.violation.' .. verb,
    'violation/' .. record.id, record_data(gpu, key, record, extra))
end

local function close(gpu, field, key, record, reason)
  redis.call('HDEL', open_key, field)
  closed = closed + 1
  about_violation('closed', gpu, key, record, {reason = reason, closed = now,
    duration_s = math.max(0, math.floor((now_ms - record.since_ms) / 1000))})
end

-- What a user's presence on a GPU that is not theirs means now: a candidate, a new violation, an old one.
local function accuse(gpu, field, user, kind, holder, record, first_ms)
  if record then
    local told = record.signature .. record.kind
    local before = record.body .. record.memory_mb
    record.kind, record.holder, record.signature, record.body = kind, holder, user.signature, user.body
    record.memory_mb, record.peak_mb = user.memory_mb, math.max(record.peak_mb, user.memory_mb)
    if told ~= user.signature .. kind then about_violation('updated', gpu, user.key, record) end
    if told ~= user.signature .. kind or before ~= record.body .. record.memory_mb then
      redis.call('HSET', open_key, field, cjson.encode(record))
    end
  elseif first_ms and now_ms - first_ms >= confirm_ms then
    local id = next_id(KEYS[1])
    local fresh = {id = 'v' .. id, kind = kind, holder = holder, signature = user.signature, body = user.body,
      since = rfc3339(first_ms), since_ms = first_ms, memory_mb = user.memory_mb, peak_mb = user.memory_mb}
    redis.call('HDEL', pending_key, field)
    redis.call('HSET', open_key, field, cjson.encode(fresh))
    opened = opened + 1
    about_violation('opened', gpu, user.key, fresh, nil, id)
  else
    if not first_ms then redis.call('HSET', pending_key, field, whole(now_ms)) end
    local due = (first_ms or now_ms) + confirm_ms
    if due_ms == 0 or due < due_ms then due_ms = due end
  end
end

local last = redis.call('HMGET', KEYS[3], 'at_ms', 'stalled_ms')
if last[2] then
  tell('scanner.resumed', 'scanner', cjson.encode({stalled_s = math.floor((now_ms - tonumber(last[2])) / 1000)}))
  redis.call('HDEL', KEYS[3], 'stalled_ms', 'stalled_reason')
end
redis.call('HSET', KEYS[3], 'at_ms', whole(now_ms), 'began_ms', whole(now_ms - age_ms))

-- Keeps what the scan says of a GPU, and tells what changed; `old` is what was kept before.
local function keep(gpu, key, old)
  local subject = 'gpu/' .. gpu.index
  local summary = old.holder and splice({holder = old.holder_user}, gpu.summary) or gpu.summary
  if not old.signature then redis.call('ZADD', KEYS[4], gpu.index, gpu.index) end
  if old.unseen and now_ms - age_ms >= tonumber(old.last_released) then redis.call('HDEL', key, 'unseen') end
  if old.usage ~= gpu.usage then redis.call('HSET', key, 'usage', gpu.usage) end
  if old.state == 'ok' and gpu.state ~= 'ok' and last[1] then redis.call('HSET', key, 'ok_ms', last[1]) end
  if gpu.state == 'error' and not old.failed then
    redis.call('HSET', key, 'failed', '1')
    tell('gpu.failed', subject, summary)
  elseif gpu.state == 'ok' and old.failed then
    redis.call('HDEL', key, 'failed')
    tell('gpu.recovered', subject, summary)
  end
  if old.signature ~= gpu.signature then
    redis.call('HSET', key, 'signature', gpu.signature, 'state', gpu.state, 'uuid', gpu.uuid)
    tell('gpu.changed', subject, summary)
  end
end

-- Whether a user is on the GPU by right: it is theirs, or what nobody is proven to own says it belongs to
-- the reservation. Memory without a process is nobody's fault on a GPU that is reserved.
local function rightful(old, user)
  local theirs = user.uid >= 0 and tonumber(old.holder_uid) == user.uid
  return old.holder and (theirs or user.claim == old.holder or user.key == 'unknown')
end

local open, pending = pairs_of(open_key), pairs_of(pending_key)
for position, gpu in ipairs(scan) do
  local key, prefix = KEYS[FIRST - 1 + position], gpu.index .. '/'
  local old = pairs_of(key)
  keep(gpu, key, old)
  if gpu.state == 'ok' then
    local good_ms = tonumber((old.state == 'ok' and last[1]) or old.ok_ms or now_ms)
    local another = old.uuid and old.uuid ~= gpu.uuid
    local users, overstays = {}, false
    for _, user in ipairs(old.unmanaged and {} or gpu.users) do
      users[prefix .. user.key] = user
      overstays = overstays or tonumber(old.expired_uid) == user.uid
    end
    if old.expired_uid and not overstays and now_ms - age_ms > tonumber(old.last_released or 0) then
      redis.call('HDEL', key, 'expired_uid')
    end
    for field, text in pairs(open) do
      if string.sub(field, 1, #prefix) == prefix and (another or not users[field]) then
        local name = string.sub(field, #prefix + 1)
        close(gpu, field, name, cjson.decode(text), (old.unmanaged or gpu.exempt[name]) and 'exempted' or 'stopped')
        open[field] = nil
      end
    end
    for field in pairs(pending) do
      if string.sub(field, 1, #prefix) == prefix and (another or not users[field] or now_ms - good_ms > stale_ms) then
        redis.call('HDEL', pending_key, field)
        pending[field] = nil
      end
    end
    for field, user in pairs(users) do
      local record = open[field] and cjson.decode(open[field])
      if rightful(old, user) then
        if record then close(gpu, field, user.key, record, 'reserved') end
        redis.call('HDEL', pending_key, field)
      else
        local overstaying = tonumber(old.expired_uid) == user.uid and 'overstaying' or 'unreserved'
        accuse(gpu, field, user, old.holder and 'trespass' or overstaying, old.holder and old.holder_user, record,
          tonumber(pending[field]))
      end
    end
  end
end

-- Whether a reservation's user is on any of its GPUs: used, idle, or unknown where that cannot be told.
local function use_of(record, by_index)
  local use = 'idle'
  for _, index in ipairs(record.gpus) do
    local gpu = by_index[index]
    if gpu and gpu.state == 'ok' then
      if gpu.exempt['uid:' .. whole(record.uid)] then return 'used' end
      for _, user in ipairs(gpu.users) do
        if user.uid == record.uid or user.claim == record.id then return 'used' end
        if not user.proven then use = 'unknown' end
      end
    else
      use = 'unknown'
    end
  end
  return use
end

-- Follows for how long a reservation is idle; returns whether it is to be released for that. What is unknown,
-- a gap between two scans too, is not idle: its time begins anew then, and so does the time until the release.
local function follow(record, use, gap)
  local since, told, until_ms = record.idle_ms, record.idle_told_ms, record.idle_until_ms
  local releases = record.kind == 'manual' and rules.idle_release_ms > 0
  if use == 'idle' then
    since = not gap and since or now_ms
    if now_ms - since >= rules.idle_after_ms and (not told or (releases and not until_ms)) then
      told, until_ms = now_ms, releases and now_ms + rules.idle_release_ms or nil
      tell('reservation.idle', 'reservation/' .. record.id,
        facts_of(record, {idle = rfc3339(since), deadline = until_ms and rfc3339(until_ms)}))
    end
  else
    since = nil
    if use == 'used' and told then tell('reservation.used', 'reservation/' .. record.id, facts_of(record)) end
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
    if follow(record, use, gap) then over[#over + 1] = record.id end
  end
end
local granted = {}
if settles or #over > 0 then
  local host = open_host(FIRST)
  for _, record in pairs(host.records) do
    if record.ended_ms and not lingers(host, record) then free(host, record, record.gpus, 'exited') end
  end
  for _, id in ipairs(over) do free(host, host.records[id], host.records[id].gpus, 'idle') end
  if not host.incomplete then walk(host) end
  granted = host.granted
end
return {now_ms, due_ms, opened, closed, granted}
