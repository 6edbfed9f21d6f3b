-- Shared by the scripts of the service: who a process belongs to, and whether it may use a reserved GPU.

-- Returns a field of a process, or nil if it is absent or null.
local function known(value)
  if value == cjson.null then return nil end
  return value
end

-- Returns whether a process is the user's own: by its uid, or because both have the same login (sudo, su).
local function of_user(process, uid, login_uid)
  local own, from = known(process.uid), known(process.login_uid)
  return uid ~= nil and (own == uid or from == uid or (login_uid ~= nil and (own == login_uid or from == login_uid)))
end

-- Returns the key of the process's user on this host, like identity_key in service/gpus/observation.py.
local function key_of(process)
  if process.key then return process.key end
  if known(process.uid) then return 'uid:' .. string.format('%.0f', process.uid) end
  return process.user == 'unknown' and process.user or 'user:' .. process.user
end

local BEGAN_MARGIN_MS = 5000  -- For comparing times of two clocks: this host's and Redis'.
local BEGAN_MARGIN_TICKS = 500  -- The same in clock ticks, of which Linux counts 100 a second.

-- Returns whether a process is older than a reservation. The clock of the boot decides, because it cannot be set;
-- for a reservation of an older version, the time of day does.
local function began_before(rules, record, process)
  if not known(process.began_ms) then return false end
  if rules.boot and known(record.boot) and known(record.up) and known(process.start) then
    return record.boot == rules.boot and process.start < record.up - BEGAN_MARGIN_TICKS
  end
  return process.began_ms < record.started_ms - BEGAN_MARGIN_MS
end

-- Returns what a process is on a reserved GPU: own; presumed (its user is not proven, and nothing indicates another
-- user); hinted (something indicates another user); or other. A uid without a user name counts as another user.
-- service/status/process_ownership.py has the same rules.
local function ownership(rules, gpu, record, process)
  if of_user(process, record.uid, known(record.login_uid)) or known(process.run) == record.id then return 'own' end
  if known(process.person) or process.unnamed then return 'other' end
  if gpu.disowned and cjson.decode(gpu.disowned)[key_of(process)] then return 'other' end
  local hint, claim = known(process.hint), known(process.reservation)
  if hint and not (hint.user == record.user or of_user({uid = hint.uid}, record.uid, known(record.login_uid))) then
    return 'hinted'
  end
  if claim then return claim == record.id and 'own' or 'hinted' end
  if not hint and began_before(rules, record, process) then return 'other' end
  return rules.presume_holder and 'presumed' or 'other'
end

local function has_right(rules, gpu, record, process)
  local is = ownership(rules, gpu, record, process)
  return is == 'own' or is == 'presumed'
end

