-- Shared by every script and put before its text. The time is read once, in whole milliseconds.
local clock = redis.call('TIME')
local now_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- Returns the time `ms` in RFC 3339, in UTC with milliseconds. The date is computed from the days since 1970.
local function rfc3339(ms)
  local seconds = math.floor(ms / 1000)
  local days = math.floor(seconds / 86400)
  local left = seconds - days * 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, doy - math.floor((153 * mp + 2) / 5) + 1,
    math.floor(left / 3600), math.floor(left % 3600 / 60), left % 60, ms % 1000)
end

local stamp

local function now()
  stamp = stamp or rfc3339(now_ms)
  return stamp
end

-- Returns one JSON object with the table `scalars` (not empty) and the fields of `fragment`, a JSON object as text.
-- Lists stay text, because the JSON library of Redis writes an empty list as an object.
local function splice(scalars, fragment)
  local head = cjson.encode(scalars)
  if fragment == nil or fragment == '' or fragment == '{}' then return head end
  return string.sub(head, 1, -2) .. ',' .. string.sub(fragment, 2)
end

-- Returns a new event id. Ids increase within a host, and are not repeated after Redis was wiped or set back.
local function next_id(sequence_key)
  local number = redis.pcall('INCR', sequence_key)
  if type(number) == 'table' then error('BEHIND the number of the last event is not a number') end
  return string.format('%.0f-%d', now_ms, number)
end

-- The id of the last entry of each stream that this script appended to, as {ms, number}.
local heads = {}

-- Appends an entry. The second part of its id counts the entries of the stream: 1, 2, 3 and so on.
-- A reader that finds a gap between two numbers knows how many entries are missing.
local function append(stream, entry)
  local head = heads[stream]
  if not head then
    head = {0, 0}
    local facts = redis.pcall('XINFO', 'STREAM', stream)  -- XINFO fails if there is no stream yet.
    for i = 1, #facts, 2 do
      if facts[i] == 'last-generated-id' then
        local ms, number = string.match(facts[i + 1], '^(%d+)-(%d+)$')
        head = {tonumber(ms), tonumber(number)}
      end
    end
    heads[stream] = head
  end
  head[1], head[2] = math.max(now_ms, head[1]), head[2] + 1
  if head[2] >= 1e15 then head[1], head[2] = head[1] + 1, 1 end  -- This number was not written by this script.
  redis.call('XADD', stream, string.format('%.0f-%.0f', head[1], head[2]), unpack(entry))
end

-- Appends one event to each stream of `streams`. service/storage/retention.py trims the streams.
local function append_event(streams, host, id, event_type, subject, data)
  for _, stream in ipairs(streams) do
    append(stream, {'id', id, 'source', '//' .. host .. '/canhazgpu', 'specversion', '1.0', 'type', event_type,
      'subject', subject, 'time', now(), 'datacontenttype', 'application/json', 'data', data})
  end
end
