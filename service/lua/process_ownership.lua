-- Shared by the scripts of the service: whose a process is, and what it is on a GPU that a reservation holds.
-- A field of a process, nil where it is absent or null.
local function known(value)
  if value == cjson.null then return nil end
  return value
end

-- Whether a process is a user's own: by its uid, or because both come from one login (sudo, su).
local function of_user(process, uid, login_uid)
  local own, from = known(process.uid), known(process.login_uid)
  return uid ~= nil and (own == uid or from == uid or (login_uid ~= nil and (own == login_uid or from == login_uid)))
end

-- What identifies a process's user on this host; as identity_key in service/gpus/observation.py.
local function key_of(process)
  if process.key then return process.key end
  if known(process.uid) then return 'uid:' .. string.format('%.0f', process.uid) end
  return process.user == 'unknown' and process.user or 'user:' .. process.user
end

local BEGAN_MARGIN_MS = 5000  -- Moments of two clocks are compared, this host's and Redis'.

-- What a process is on a GPU that a reservation holds: own, presumed (its user cannot be proven, and nothing
-- points to anybody but the holder, as the uid of a user without a name does), hinted (something does) or other. As service/status/process_ownership.py.
local function ownership(rules, gpu, record, process)
  if of_user(process, record.uid, known(record.login_uid)) or known(process.run) == record.id then return 'own' end
  if known(process.person) or process.unnamed then return 'other' end
  if gpu.disowned and cjson.decode(gpu.disowned)[key_of(process)] then return 'other' end
  local hint, claim = known(process.hint), known(process.reservation)
  if hint and not (hint.user == record.user or of_user({uid = hint.uid}, record.uid, known(record.login_uid))) then
    return 'hinted'
  end
  if claim then return claim == record.id and 'own' or 'hinted' end
  if not hint and known(process.began_ms) and process.began_ms < record.started_ms - BEGAN_MARGIN_MS then return 'other' end
  return rules.presume_holder and 'presumed' or 'other'
end

local function has_right(rules, gpu, record, process)
  local is = ownership(rules, gpu, record, process)
  return is == 'own' or is == 'presumed'
end

