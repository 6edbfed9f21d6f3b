-- collect: copies what reports need from one page of a stream: from `ledger`, the reservations that ended, and from
-- `events`, how long requests waited. The place is kept with it, so that nothing is copied twice or left out.
-- Keys: stream usage
-- Args: name count types
-- Returns: the number of entries read
-- Events:
local stream, usage, name = KEYS[1], KEYS[2], ARGV[1]
local DAY_MS = 86400 * 1000
local kind = name == 'ledger' and 'held' or 'waits'
local place = redis.call('HGET', usage, 'place/' .. name)
local page = redis.call('XRANGE', stream, place and '(' .. place or '-', '+', 'COUNT', tonumber(ARGV[2]))
if #page == 0 then return 0 end

-- Returns what is kept of an event as JSON, or nil. An entry that cannot be read is left out.
local function kept_of(event)
  local good, data = pcall(cjson.decode, event.data or '')
  if not good or type(data) ~= 'table' then return nil end
  local ended = kind == 'held' and (data.released or event.time) or event.time
  local began, gpus = kind == 'held' and data.started or data.queued, data.gpus
  if type(began) ~= 'string' or type(ended) ~= 'string' or type(data.uid) ~= 'number' or type(data.user) ~= 'string' then return nil end
  if kind == 'waits' then return cjson.encode({began, ended, data.uid, data.user}) end
  if type(gpus) ~= 'table' or #gpus == 0 or data.reason == 'stale' then return nil end  -- It had ended before.
  local cards = {}
  for i, index in ipairs(gpus) do
    local uuid = type(data.uuids) == 'table' and data.uuids[i] or ''
    cards[i] = type(uuid) == 'string' and uuid ~= '' and uuid or 'gpu' .. tostring(index)
  end
  return cjson.encode({began, ended, data.uid, data.user, cards})
end

local wanted, days = {}, {}
for _, one in ipairs(cjson.decode(ARGV[3])) do wanted[one] = true end
for _, entry in ipairs(page) do
  local event = {}
  for i = 1, #entry[2], 2 do event[entry[2][i]] = entry[2][i + 1] end
  local kept = wanted[event.type or ''] and kept_of(event)
  if kept then
    local day = string.format('%.0f', math.floor(tonumber(string.match(entry[1], '^%d+')) / DAY_MS))
    days[day] = days[day] or {}
    table.insert(days[day], kept)
  end
end
for day, lines in pairs(days) do
  local field = kind .. '/' .. day
  local before = redis.call('HGET', usage, field)
  redis.call('HSET', usage, field, (before and before .. ',' or '') .. table.concat(lines, ','))
end
redis.call('HSET', usage, 'place/' .. name, page[#page][1])
return #page
