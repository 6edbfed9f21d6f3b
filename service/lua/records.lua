-- Shared by the scripts of the service: reads and validates JSON records.
local NO_MOMENT = 1e14  -- From this value on, the JSON library writes 1e+14, which other readers do not accept as an integer.

-- Returns whether a table has fields of these types. With `optional`, fields may be absent.
local function has_shape(value, types, optional)
  if type(value) ~= 'table' then return false end
  for name, kind in pairs(types) do
    local field = value[name]
    if type(field) ~= kind and not (field == nil and optional) then return false end
    if kind == 'number' and field and (field < 0 or field >= NO_MOMENT) then return false end
  end
  return true
end

local RECORD = {id = 'string', kind = 'string', user = 'string', uid = 'number', gpus = 'table', started_ms = 'number'}
local RECORD_MORE = {expires_ms = 'number', ended_ms = 'number', heartbeat_ms = 'number', timeout_ms = 'number', login_uid = 'number',
  unused_ms = 'number'}

-- Returns a stored reservation, or nil if it cannot be read.
local function record_of(text)
  local good, record = pcall(cjson.decode, text)
  if not good or not has_shape(record, RECORD) or not has_shape(record, RECORD_MORE, true) then
    return nil
  end
  for _, index in ipairs(record.gpus) do
    if type(index) ~= 'number' then return nil end
  end
  return record
end

local REQUEST = {id = 'string', kind = 'string', user = 'string', uid = 'number', place = 'number', queued_ms = 'number'}
local REQUEST_MORE = {gpus = 'table', count = 'number', limit = 'number', duration_ms = 'number', timeout_ms = 'number', login_uid = 'number',
  fleet_limit = 'number', elsewhere = 'table'}

-- Returns a stored request, or nil if it cannot be read.
local function request_of(text)
  local good, request = pcall(cjson.decode, text)
  if not good or not has_shape(request, REQUEST) or not has_shape(request, REQUEST_MORE, true)
    or not (request.gpus or request.count) then
    return nil
  end
  return request
end

-- Returns a stored open violation, or nil if it cannot be read: it is opened again if the use continues.
local function violation_of(text)
  local good, record = pcall(cjson.decode, text)
  if not good or not has_shape(record, {id = 'string', kind = 'string', since = 'string', since_ms = 'number', peak_mb = 'number', body = 'string'})
    or not pcall(cjson.decode, record.body) then
    return nil
  end
  return record
end

-- Returns a stored silence, or nil if it cannot be read.
local function silence_of(text)
  local good, silence = pcall(cjson.decode, text)
  return good and has_shape(silence, {id = 'string', ['until'] = 'string', until_ms = 'number', by_uid = 'number'}) and silence or nil
end

-- Returns the field of a violation's event that quotes the reservation that is used by others, or nil if it has no note.
local function quoted_note(reservations, id)
  local record = id and record_of(redis.call('HGET', reservations, id) or '')
  return record and type(record.note) == 'string' and {holder_note = record.note} or nil
end

-- Returns the event data of an open violation, stored as `record`; `extra` has additional fields.
local function violation_data(index, key, record, extra)
  local head = {violation = record.id, kind = record.kind, gpu = index, key = key, since = record.since,
    memory_mb = record.memory_mb, peak_memory_mb = record.peak_mb, holder = record.holder}
  for name, value in pairs(extra or {}) do head[name] = value end
  return splice(head, record.body)
end
