-- release: ends reservations of a user or, for an administrator, of anybody, or releases some of their GPUs.
-- Without `gpus`, `ids` and `all`, the user's manual reservations end, and runs whose process has already ended.
-- The process of any other run continues without its reservation. What a scheduler holds for a job stays.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules request
-- Returns: JSON: code (released, not-yours, none, again), released, blocked, granted
-- Events: reservation.created reservation.released
local host, request = open_host(10), cjson.decode(ARGV[3])
local before = redis.call('GET', KEYS[9])
if before then return before end
if host.incomplete then return cjson.encode({code = 'again'}) end
follow_cards(host, request)

local parts, blocked = {}, {}
local function may_end(record) return request.admin or (is_own(record, request) and not is_job(record)) end
local function part_of(record, index)
  parts[record.id] = parts[record.id] or {}
  table.insert(parts[record.id], index)
end
for _, index in ipairs(request.gpus or {}) do
  local gpu = host.by_index[index]
  local record = gpu and gpu.holder and host.records[gpu.holder]
  if record and may_end(record) then
    part_of(record, index)
  else
    blocked[#blocked + 1] = blocked_by(index, record, request)
  end
end
for _, id in ipairs(request.ids or {}) do
  local record = host.records[id]  -- If there is none, it has already ended, which is the wanted result.
  if record and may_end(record) then
    parts[id] = record.gpus
  elseif record then
    blocked[#blocked + 1] = blocked_by(record.gpus[1], record, request)
  end
end
if #blocked > 0 then return save_reply(host, {code = 'not-yours', blocked = blocked}) end
if not request.gpus and not request.ids then
  for _, record in pairs(every_record(host)) do
    local theirs = is_own(record, request) or (request.admin and request.everybody)
    if theirs and (request.admin or not is_job(record)) and (request.all or record.kind == 'manual' or record.ended_ms) then
      for _, index in ipairs(record.gpus) do part_of(record, index) end
    end
  end
end
local released = release_parts(host, parts, request.reason, request.by)
if #released == 0 then return save_reply(host, {code = 'none'}) end
serve_queue(host)
return save_reply(host, {code = 'released', released = released})
