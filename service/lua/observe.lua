-- observe: takes one scan of every GPU; stores usage; opens, updates and closes violations.
-- A violation is opened only by a second good scan, at least confirm_ms after the first; a scan that
-- could not tell (error, unknown) neither opens nor closes anything.
-- Keys: sequence events violations scan open pending gpus gpu...
-- Args: host confirm_ms stale_ms scan
-- Returns: now_ms due_ms opened closed
-- Events: gpu.changed gpu.failed gpu.recovered scanner.resumed violation.opened violation.updated violation.closed
local sequence, events, violations, scan_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local open_key, pending_key, gpus_key = KEYS[5], KEYS[6], KEYS[7]
local host, confirm_ms, stale_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local scan = cjson.decode(ARGV[4])
local KEPT = 100000
local due_ms, opened, closed = 0, 0, 0

local function pairs_of(key)
  local flat, map = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

local function tell(streams, event_type, subject, data, id)
  publish(streams, KEPT, host, id or next_id(sequence), 'canhazgpu.' .. event_type, subject, data)
end

local function record_data(gpu, key, record, extra)
  local head = {violation = record.id, kind = record.kind, gpu = gpu.index, key = key, since = record.since,
    memory_mb = record.memory_mb, peak_memory_mb = record.peak_mb, holder = record.holder}
  for name, value in pairs(extra or {}) do head[name] = value end
  return splice(head, record.body)
end

local function about_violation(verb, gpu, key, record, extra, id)
  tell({events, violations}, 'violation.' .. verb, 'violation/' .. record.id, record_data(gpu, key, record, extra), id)
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
    local id = next_id(sequence)
    local fresh = {id = 'v' .. id, kind = kind, holder = holder, signature = user.signature, body = user.body,
      since = rfc3339(first_ms), since_ms = first_ms, memory_mb = user.memory_mb, peak_mb = user.memory_mb}
    redis.call('HDEL', pending_key, field)
    redis.call('HSET', open_key, field, cjson.encode(fresh))
    opened = opened + 1
    about_violation('opened', gpu, user.key, fresh, nil, id)
  else
    if not first_ms then redis.call('HSET', pending_key, field, string.format('%.0f', now_ms)) end
    local due = (first_ms or now_ms) + confirm_ms
    if due_ms == 0 or due < due_ms then due_ms = due end
  end
end

local last = redis.call('HMGET', scan_key, 'at_ms', 'stalled_ms')
if last[2] then
  tell({events}, 'scanner.resumed', 'scanner', cjson.encode({stalled_s = math.floor((now_ms - tonumber(last[2])) / 1000)}))
  redis.call('HDEL', scan_key, 'stalled_ms', 'stalled_reason')
end
redis.call('HSET', scan_key, 'at_ms', string.format('%.0f', now_ms))

local open, pending = pairs_of(open_key), pairs_of(pending_key)
for position, gpu in ipairs(scan) do
  local key, prefix = KEYS[7 + position], gpu.index .. '/'
  local old = redis.call('HMGET', key, 'usage', 'signature', 'state', 'uuid', 'failed', 'ok_ms', 'holder', 'holder_uid')
  local subject = 'gpu/' .. gpu.index
  local held = old[7] and old[7] ~= ''
  local summary = held and splice({holder = old[7]}, gpu.summary) or gpu.summary
  if not old[2] then redis.call('ZADD', gpus_key, gpu.index, gpu.index) end
  if old[1] ~= gpu.usage then redis.call('HSET', key, 'usage', gpu.usage) end
  if old[3] == 'ok' and gpu.state ~= 'ok' and last[1] then redis.call('HSET', key, 'ok_ms', last[1]) end
  if gpu.state == 'error' and not old[5] then
    redis.call('HSET', key, 'failed', '1')
    tell({events}, 'gpu.failed', subject, summary)
  elseif gpu.state == 'ok' and old[5] then
    redis.call('HDEL', key, 'failed')
    tell({events}, 'gpu.recovered', subject, summary)
  end
  if old[2] ~= gpu.signature then
    redis.call('HSET', key, 'signature', gpu.signature, 'state', gpu.state, 'uuid', gpu.uuid)
    tell({events}, 'gpu.changed', subject, summary)
  end
  if gpu.state == 'ok' then
    local good_ms = tonumber((old[3] == 'ok' and last[1]) or old[6] or now_ms)
    local another = old[4] and old[4] ~= gpu.uuid
    local users = {}
    for _, user in ipairs(gpu.users) do users[prefix .. user.key] = user end
    for field, text in pairs(open) do
      if string.sub(field, 1, #prefix) == prefix and (another or not users[field]) then
        local name = string.sub(field, #prefix + 1)
        close(gpu, field, name, cjson.decode(text), gpu.exempt[name] and 'exempted' or 'stopped')
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
      if held and user.uid >= 0 and tonumber(old[8]) == user.uid then
        if record then close(gpu, field, user.key, record, 'reserved') end
        redis.call('HDEL', pending_key, field)
      else
        accuse(gpu, field, user, held and 'trespass' or 'unreserved', held and old[7] or nil, record, tonumber(pending[field]))
      end
    end
  end
end
return {now_ms, due_ms, opened, closed}
