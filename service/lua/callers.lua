-- Shared by the scripts of the service: what a caller holds, and which GPUs a caller names.

-- Returns whether a reservation or a request in the queue is the caller's own. After `sudo` the caller is the user who
-- logged in; others who are root are not. An administrator has no `person` and means everything of a uid.
local function is_own(record, caller)
  if not caller.person then return record.uid == caller.uid end
  return (known(record.login_uid) or record.uid) == caller.person or (record.uid == caller.uid and caller.uid ~= 0)
end

-- Returns whether a scheduler holds the GPUs for a job: its users cannot release them, only the end of the job does.
local function is_job(record) return record.kind ~= 'run' and record.kind ~= 'manual' end

-- Gives GPUs that a caller named by UUID their current indices: a scan may have renumbered them since `request` was read.
local function follow_cards(host, request)
  local now_at = {}
  for _, gpu in ipairs(host.gpus) do now_at[gpu.uuid or ''] = gpu.index end
  for i, index in ipairs(request.gpus or {}) do
    local uuid, there = known(request.uuids) and request.uuids[tostring(index)], host.by_index[index]
    if uuid and there and there.uuid ~= uuid then request.gpus[i] = now_at[uuid] or (there.uuid and -1 or index) end
  end
  request.uuids = nil
end

-- Returns a GPU that a caller cannot change, as the answer shows it.
local function blocked_by(index, record, caller)
  if not record then return {gpu = index} end
  return {gpu = index, by = record.user, kind = record.kind, another_login = record.uid == caller.uid and not is_own(record, caller) or nil}
end
