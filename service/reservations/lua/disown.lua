-- disown: a holder declares that the presumed use of their GPUs is not theirs; `undo` reverts this.
-- It affects the users who are presumed now, until the GPU is released. Their use becomes a violation.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules request
-- Returns: JSON: code (disowned, not-yours, none, again), disowned, blocked
-- Events: reservation.disowned
local host, request = open_host(10), cjson.decode(ARGV[3])
local before = redis.call('GET', KEYS[9])
if before then return before end
if host.incomplete then return cjson.encode({code = 'again'}) end
follow_cards(host, request)
request.gpus = request.gpus and with_instances(host, request.gpus)

local chosen, blocked, disowned = {}, {}, {}
for _, gpu in ipairs(host.gpus) do
  local record = gpu.holder and host.records[gpu.holder]
  local theirs = record and is_own(record, request)
  if request.gpus and wants(request, gpu.index) and not theirs then
    blocked[#blocked + 1] = blocked_by(gpu.index, record, request)
  elseif theirs and wants(request, gpu.index) then
    chosen[#chosen + 1] = gpu
  end
end
for _, index in ipairs(request.gpus or {}) do
  if not host.by_index[index] then blocked[#blocked + 1] = {gpu = index} end
end
if #blocked > 0 then return save_reply(host, {code = 'not-yours', blocked = blocked}) end

-- Returns the keys and names of the users on a GPU who are not proven to belong to the reservation or to anybody else.
local function unproven(gpu, record)
  local keys, users, found = gpu.disowned and cjson.decode(gpu.disowned) or {}, {}, false
  local processes = usage_of(gpu).processes
  for _, process in ipairs(processes) do
    local bound = of_user(process, record.uid, known(record.login_uid)) or known(process.run) == record.id
    if not bound and not known(process.person) and not process.unnamed and not keys[key_of(process)] then
      keys[key_of(process)], found = true, true
      users[#users + 1] = process.user
    end
  end
  if #processes == 0 and usage_of(gpu).in_use and not keys.unknown then keys.unknown, users, found = true, {'unknown'}, true end
  return found and keys, users
end

for _, gpu in ipairs(chosen) do
  local record = host.records[gpu.holder]
  local keys, users
  if request.undo then
    keys, users = gpu.disowned and '', {}
  elseif gpu.text then
    keys, users = unproven(gpu, record)
  end
  if keys then
    if request.undo then
      redis.call('HDEL', gpu.key, 'disowned')
    else
      redis.call('HSET', gpu.key, 'disowned', cjson.encode(keys))
    end
    publish('reservation.disowned', 'reservation/' .. record.id, facts_of(record, {gpus = {gpu.index}, disowned = request.undo and cjson.null or users}))
    disowned[#disowned + 1] = {gpu = gpu.index, users = request.undo and cjson.null or users}
  end
end
return save_reply(host, {code = #disowned > 0 and 'disowned' or 'none', disowned = disowned})
