-- Shared by the scripts of the service: changes reservations and requests of a host (host.lua).
local LEDGER_KEPT_MS = 400 * 86400 * 1000
local OPERATION_KEPT_MS = 3600 * 1000
-- The maximum remaining time of a reservation: a hundred years, as in events/durations.py.
local LONGEST_MS = 100 * 365 * 86400 * 1000

local function publish(event_type, subject, data, more)
  local streams = {KEYS[2]}
  if more then streams[2] = more end
  append_event(streams, ARGV[1], next_id(KEYS[1]), 'canhazgpu.' .. event_type, subject, data)
end

-- Returns whether it is certain that only this user's own processes use a GPU.
local function only_by(gpu, request)
  local processes = usage_of(gpu).processes
  for _, process in ipairs(processes) do
    if not of_user(process, request.uid, request.login_uid) then return false end
  end
  return #processes > 0
end

-- Returns why a request cannot have a GPU, or nil if it can; then also whether the user's own processes use it.
local function obstacle(host, gpu, request)
  if gpu.unmanaged then return 'unmanaged' end
  if gpu.holder then return 'held' end
  if gpu.drained then return 'drained' end
  if gpu.state == 'error' then return 'error' end
  if gpu.state ~= 'ok' or host.blind or gpu.unseen then return 'unknown' end
  if not is_used(gpu) then return nil, false end
  if request.kind ~= 'run' and only_by(gpu, request) then return nil, true end
  return 'in_use'
end

-- Returns whether a request accepts this index. A request that names no GPUs accepts all.
local function wants(request, index)
  if not request.gpus then return true end
  for _, wanted in ipairs(request.gpus) do
    if wanted == index then return true end
  end
  return false
end

-- Returns the number of GPUs that are managed, and of the kind that a request asks for.
local function managed_for(host, request)
  local count = 0
  for _, gpu in ipairs(host.gpus) do
    if not gpu.unmanaged and is_of(host, gpu, request) then count = count + 1 end
  end
  return count
end

-- Returns the GPUs that some request may have, as far as can be seen without one.
local function free_gpus(host)
  local free = {}
  for _, gpu in ipairs(host.blind and {} or host.gpus) do
    gpu.free = gpu.state == 'ok' and not (gpu.holder or gpu.unmanaged or gpu.drained or gpu.unseen)
    if gpu.free then free[#free + 1] = gpu end
  end
  return free
end

-- Returns whether a request prefers one GPU to another: those with the user's own processes, then the last used ones
-- (if that is the policy), then the least recently released ones, then the lowest index.
local function is_better(a, b)
  if a.own ~= b.own then return a.own end
  if a.had ~= b.had then return a.had > b.had end
  if a.released_ms ~= b.released_ms then return a.released_ms < b.released_ms end
  return a.index < b.index
end

local FEW = 4  -- Up to so many, each is searched for, which takes less than to sort.

-- Puts the best `wanted` GPUs first.
local function put_first(found, wanted)
  if wanted > FEW then return table.sort(found, is_better) end
  for place = 1, wanted do
    local best = place
    for other = place + 1, #found do
      if is_better(found[other], found[best]) then best = other end
    end
    found[place], found[best] = found[best], found[place]
  end
end

-- Returns the GPUs that a request can have; if there are more than it needs, the best ones come first.
local function usable(host, request, claimed)
  local found, among, seen, end_ms = {}, host.free, {}, end_if_granted(request)
  if request.gpus then
    among = {}
    for _, index in ipairs(request.gpus) do
      local gpu = not seen[index] and host.by_index[index]
      if gpu and gpu.free then among[#among + 1] = gpu end
      seen[index] = true
    end
  end
  for _, gpu in ipairs(among) do
    if not claimed[gpu.index] and is_of(host, gpu, request) and is_unnamed(host, gpu, end_ms, request) then
      local why, own = obstacle(host, gpu, request)
      if host.instances and not why then why, own = obstacle_within(host, gpu, request, claimed, own, obstacle) end
      if not why then
        gpu.own, gpu.had = own, 0
        if host.rules.policy == 'mru-per-user' then
          gpu.had = tonumber(redis.call('HGET', KEYS[7], request.uid .. '/' .. gpu.index) or 0)
        end
        found[#found + 1] = gpu
      end
    end
  end
  local wanted, excess, left = needed(request), excess_of(host, request, found)
  if #found > wanted or excess > 0 then put_first(found, math.min(wanted, #found)) end
  if excess > 0 then leave_promised(host, found, excess, left) end
  return found
end

-- Returns a reservation or a request as events show it: times in RFC 3339, without internal fields.
local function facts_of(record, extra)
  local shown = {}
  for _, name in ipairs({'id', 'kind', 'user', 'uid', 'label', 'note', 'count', 'vendor', 'profile', 'gpus', 'pid', 'booking'}) do shown[name] = record[name] end
  for _, name in ipairs({'queued', 'started', 'expires', 'ended'}) do
    if record[name .. '_ms'] then shown[name] = rfc3339(record[name .. '_ms']) end
  end
  for name, value in pairs(extra or {}) do shown[name] = value end
  return cjson.encode(shown)
end

-- Returns the UUIDs of these GPUs, or nil for an empty list.
local function uuids_of(host, gpus)
  local found = {}
  for i, index in ipairs(gpus) do found[i] = host.by_index[index] and host.by_index[index].uuid or '' end
  return #found > 0 and found or nil
end

local function save(record)
  record.unreadable, record.rev = nil, (record.rev or 0) + 1
  redis.call('HSET', KEYS[5], record.id, cjson.encode(record))
end

-- Turns a request into a reservation with the same id, on the first GPUs of `may`.
local function create(host, request, may)
  local gpus = {}
  for i = 1, needed(request) do gpus[i] = may[i].index end
  table.sort(gpus)
  gpus = with_instances(host, gpus)
  local record = {id = request.id, kind = request.kind, user = request.user, uid = request.uid, label = request.label,
    note = request.note, gpus = gpus, pid = request.pid, start = request.start, started_ms = now_ms,
    timeout_ms = request.timeout_ms, login_uid = request.login_uid, boot = host.rules.boot, up = host.rules.up, heartbeat_ms = request.kind == 'run' and now_ms or nil,
    expires_ms = request.duration_ms and now_ms + math.min(request.duration_ms, LONGEST_MS) or nil,
    idle_ms = host.rules.idle_after_ms > 0 and now_ms or nil, booking = request.booking,
    unused_ms = request.booking and host.rules.no_show_ms > 0 and now_ms or nil}
  for _, index in ipairs(gpus) do
    local gpu = host.by_index[index]
    gpu.holder, gpu.holder_uid = record.id, record.uid
    redis.call('HSET', gpu.key, 'holder', record.id, 'holder_uid', record.uid, 'holder_user', record.user,
      'holder_since', whole(record.started_ms))
    hold_from(gpu.key, record)
    redis.call('HDEL', gpu.key, 'expired_uid', 'expired_login')
  end
  host.records[record.id], host.margins, host.cards = record, nil, nil
  save(record)
  if request.queued_ms then redis.call('HDEL', KEYS[6], request.id) end
  publish('reservation.created', 'reservation/' .. record.id, facts_of(record,
    {queued = request.queued_ms and rfc3339(request.queued_ms), uuids = uuids_of(host, gpus)}))
  return record
end

-- Returns whether a request can be served without an administrator: not if too many GPUs are drained or broken.
local function can_become_free(host, request)
  local left = 0
  for _, gpu in ipairs(host.gpus) do
    if wants(request, gpu.index) and is_of(host, gpu, request) and not is_out(host, gpu) then left = left + 1 end
  end
  return left >= needed(request)
end

-- Serves the queue in order. A request gets all of its GPUs or none. A request that cannot be served claims the GPUs
-- that it could use, unless waiting would not help. Returns the claims by index.
local function serve_queue(host)
  local claimed, left = {}, {}
  host.free = free_gpus(host)
  if #host.free == 0 then return claimed end  -- Nobody can be served, so the queue need not be read.
  for _, request in ipairs(host.requests) do
    local may = usable(host, request, claimed)
    if #may > 0 and exceeds_limit(host, request) then may = {} end
    if request.attached and #may >= needed(request) then
      host.granted[#host.granted + 1] = create(host, request, may).id
    else
      left[#left + 1] = request
      local last = #may > 0 and can_become_free(host, request) and math.min(#may, needed(request)) or 0
      for i = 1, last do
        for _, index in ipairs(with_instances(host, {may[i].index})) do claimed[index] = request.id end
      end
    end
  end
  host.requests = left
  return claimed
end

local UNUSED_SINCE = {idle = 'idle_ms', no_show = 'unused_ms'}  -- Reasons, and what says since when nothing was used.

-- Releases `gpus`, which are all or some of the GPUs of a reservation.
local function release(host, record, gpus, reason, by)
  local kept, was = {}, {}
  for _, index in ipairs(record.gpus) do
    if not wants({gpus = gpus}, index) then kept[#kept + 1] = index end
  end
  for _, index in ipairs(gpus) do
    local gpu = host.by_index[index]
    if gpu and gpu.was then was[#was + 1] = gpu.was end
    if gpu and gpu.holder == record.id then
      gpu.holder, gpu.released_ms = false, now_ms
      redis.call('HDEL', gpu.key, 'holder', 'holder_uid', 'holder_user', 'holder_since', 'holder_login', 'holder_up', 'disowned')
      redis.call('HSET', gpu.key, 'last_released', whole(now_ms))
      if reason ~= 'exited' then  -- The scan shows that no process is left if the reason is exited; otherwise a scan must check that.
        gpu.unseen = '1'
        redis.call('HSET', gpu.key, 'unseen', '1')
      end
      if reason == 'expired' then
        redis.call('HSET', gpu.key, 'expired_uid', record.uid)
        if record.login_uid then redis.call('HSET', gpu.key, 'expired_login', record.login_uid) end
      end
    end
    redis.call('HSET', KEYS[7], record.uid .. '/' .. index, whole(now_ms))
  end
  local extra = {gpus = gpus, uuids = uuids_of(host, gpus), reason = reason, by = by, released = now(), was = #was > 0 and was or nil, held_s = math.max(0, math.floor((now_ms - record.started_ms) / 1000)),
    idle = UNUSED_SINCE[reason] and record[UNUSED_SINCE[reason]] and rfc3339(record[UNUSED_SINCE[reason]]) or nil}
  if #kept > 0 then
    record.gpus, extra.kept = kept, kept
    save(record)
  else
    host.records[record.id] = nil
    redis.call('HDEL', KEYS[5], record.id)
  end
  publish('reservation.released', 'reservation/' .. record.id, facts_of(record, extra), KEYS[8])
end

-- Releases `parts`, lists of GPUs by reservation id. Returns what each reservation released.
local function release_parts(host, parts, reason, by)
  local released = {}
  for id, gpus in pairs(parts) do
    local record = host.records[id]
    gpus = lost_with(host, record, gpus, reason)
    released[#released + 1] = {id = id, kind = record.kind, user = record.user, uid = record.uid, pid = record.pid,
      started_ms = record.started_ms, gpus = gpus, whole = #gpus == #record.gpus, ended = record.ended_ms ~= nil}
    release(host, record, gpus, reason, by)
  end
  return released
end

local function leave(request, reason, by)
  redis.call('HDEL', KEYS[6], request.id)
  publish('request.left', 'request/' .. request.id, facts_of(request, {reason = reason, by = by}))
end

-- Returns whether processes of an ended reservation still use its GPUs, including those in detached containers.
-- Returns true if that is not known.
local function still_used(host, record)
  if host.blind or host.began_ms < record.ended_ms then return true end
  for _, index in ipairs(record.gpus) do
    local gpu = host.by_index[index]
    if gpu and gpu.state == 'unknown' then return true end
    if gpu and gpu.state == 'ok' and is_used(gpu) then
      for _, process in ipairs(usage_of(gpu).processes) do
        if has_right(host.rules, gpu, record, process) then return true end
      end
    end
  end
  return false
end

-- The replies that are written to the journal, as in script_replies.py.
local ACKNOWLEDGED = {granted = true, released = true, extended = true, done = true}

-- Returns the script's reply. It is stored under the operation id, so that a repeated call returns the same.
-- `cards` has the UUIDs of all GPUs, because the journal may still have the indices from before a renumbering.
local function save_reply(host, reply)
  reply.granted, reply.count = host.granted, redis.call('HLEN', KEYS[5])
  reply.promised = host.promised and redis.sha1hex(host.promised) or nil
  if ACKNOWLEDGED[reply.code] then
    reply.cards = {}
    for _, gpu in ipairs(host.gpus) do reply.cards[gpu.name] = gpu.uuid or '' end
  end
  local text = cjson.encode(reply)
  redis.call('SET', KEYS[9], text, 'PX', OPERATION_KEPT_MS)
  return text
end
