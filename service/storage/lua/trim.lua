-- trim: removes the oldest entries of a stream as its retention allows, at most `most` of them, but none that an
-- active consumer group has not acknowledged. A group that is behind and was not read for abandon_ms is abandoned: it no
-- longer holds entries back, until it is read again. With `pressed`, the group that is furthest behind is abandoned too,
-- for at least a minute. `any` considers all groups, `spare` leaves out those that were read within the last minute.
-- Keys: sequence events stream consumers
-- Args: host keep_ms keep most abandon_ms pressed
-- Returns: JSON: entries, trimmed, held (whether a group held entries back), and the groups by name
-- Events: consumer_group.abandoned consumer_group.resumed
local stream, consumers = KEYS[3], KEYS[4]
local keep_ms, keep, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local abandon_ms, pressed = tonumber(ARGV[5]), ARGV[6]
local LATELY_MS = 60 * 1000
local name = string.match(stream, '[^:]+$')

local function id_of(text)
  local ms, number = string.match(text, '^(%d+)-?(%d*)$')
  return {ms = tonumber(ms), number = tonumber(number) or 0, text = text}
end
local function before(a, b) return a.ms < b.ms or (a.ms == b.ms and a.number < b.number) end
local function map_of(flat)
  local map = {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

if redis.call('EXISTS', stream) == 0 then return '{"entries":0,"trimmed":0,"held":false,"groups":{}}' end
local facts = map_of(redis.call('XINFO', 'STREAM', stream))
local entries, last = facts['length'], id_of(facts['last-generated-id'])
local first = entries > 0 and id_of(facts['first-entry'][1]) or {ms = last.ms, number = last.number + 1}

-- Two counts, by the numbers of the entries: entries after `id`, and removed entries after `id`.
local function after(id)
  if not before(id, last) then return 0 end
  if before(id, first) then return entries end
  return math.max(1, math.min(entries, last.number - id.number))
end
local function removed_after(id)
  if id.number == 0 and id.ms > 0 then return nil end  -- A time, or an entry from before entries were numbered.
  return math.max(0, first.number - 1 - id.number)
end

local function publish_group(event_type, record, extra)
  local data = {stream = name, group = record.shown, behind = record.behind, read = rfc3339(record.at_ms)}
  for key, value in pairs(extra) do data[key] = value end
  publish(event_type, 'consumer_group/' .. name .. '/' .. record.shown, cjson.encode(data))
end

-- Returns the state of a group: since when its position is unchanged, and the first entry that it needs.
local function inspect(group)
  local label, delivered = group['name'], id_of(group['last-delivered-id'])
  local pending = redis.call('XPENDING', stream, label)
  local record = {at_ms = now_ms, place = delivered.text .. ' ' .. pending[1] .. ' ' .. (pending[2] or ''), delivered = delivered,
    shown = string.gsub(label, '[^ -~]', '?'), needs = pending[1] > 0 and id_of(pending[2]) or delivered}
  record.behind = pending[1] + after(delivered)
  local text = redis.call('HGET', consumers, name .. '/' .. label)
  local known = text and cjson.decode(text)
  record.text = text
  local moved = known and known.place ~= record.place
  if known and not moved then record.at_ms = known.at_ms end
  if known and (not moved or now_ms < (known.until_ms or 0)) then
    record.abandoned, record.until_ms, record.moved = known.abandoned, known.until_ms, known.moved or moved or nil
  end
  if known and known.abandoned and not record.abandoned then
    local missing = not known.moved and removed_after(id_of(string.match(known.place, '^%S+'))) or nil
    publish_group('consumer_group.resumed', record, {missing = missing})
  end
  return label, record
end

-- Returns whether a member has read within this time. A member that reads the same entries again counts too.
local function read_within(label, span_ms)
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, label)) do
    if map_of(flat)['idle'] < span_ms then return true end
  end
  return false
end
local function unread_for_long(label, record)
  return now_ms - record.at_ms >= abandon_ms and not read_within(label, abandon_ms)
end

local function abandon(record, reason)
  record.abandoned, record.moved = reason, nil
  if reason == 'memory' then record.until_ms = now_ms + LATELY_MS end
  publish_group('consumer_group.abandoned', record, {reason = reason})
end

local groups, furthest = {}, nil
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local label, record = inspect(map_of(flat))
  groups[label] = record
  if record.behind > 0 and not record.abandoned then
    if unread_for_long(label, record) then
      abandon(record, 'unread')
    elseif not (furthest and before(groups[furthest].needs, record.needs)) then
      if pressed ~= 'spare' or not read_within(label, LATELY_MS) then furthest = label end
    end
  end
end
if pressed ~= '' and furthest then abandon(groups[furthest], 'memory') end

local cut = id_of(string.format('%.0f-0', math.max(0, now_ms - keep_ms)))
if entries > keep then
  local page = redis.call('XRANGE', stream, '-', '+', 'COUNT', math.min(entries - keep, most) + 1)
  local reached = id_of(page[#page][1])
  if before(cut, reached) then cut = reached end
end
local held = false
for _, record in pairs(groups) do
  if not record.abandoned and before(record.needs, cut) then cut, held = record.needs, true end
end
local trimmed = 0
if before(first, cut) then trimmed = redis.call('XTRIM', stream, 'MINID', '~', cut.text, 'LIMIT', most) end

local answer = {entries = entries - trimmed, trimmed = trimmed, held = held, groups = {}}
for field in pairs(pairs_of(consumers)) do
  local label = string.match(field, '^' .. name .. '/(.*)$')
  if label and not groups[label] then redis.call('HDEL', consumers, field) end
end
for label, record in pairs(groups) do
  local text = cjson.encode({at_ms = record.at_ms, place = record.place, abandoned = record.abandoned,
    until_ms = record.until_ms, moved = record.moved})
  if text ~= record.text then redis.call('HSET', consumers, name .. '/' .. label, text) end
  answer.groups[record.shown] = {behind = record.behind, at_ms = record.at_ms, abandoned = record.abandoned,
    missing = record.abandoned and removed_after(record.delivered)}
end
return cjson.encode(answer)
