-- The log of use: for each GPU, what a scan saw that the scan before it did not. Reports add it up (service/report/).
-- A field of the hash `usage` has the entries of one GPU in one hour, `[ms,level,holder,user...]`, as JSON without the
-- outer brackets. An entry holds until the next one; the first one of a day repeats the last one of the day before.
-- `level`: busy, idle (in use, but its utilisation is low), free, out (drained or unmanaged), divided (its MIG instances
-- count instead) or unknown. `holder`: the uid of the reservation at that scan, or -1. `user`: who used the GPU; use that
-- the holder has a right to is theirs.
local HOUR_MS = 3600 * 1000
local TODAY = whole(math.floor(now_ms / HOUR_MS / 24))
local LONGEST_LOG = 4096  -- Bytes per GPU and hour; above that, entries are added up.
local MOST_USERS = 16  -- Per entry.

-- Adds the users of a row to those of this scan; `members` are those of it without a right to the GPU.
local function note_user(gpu, old, row, members)
  gpu.seen = gpu.seen or {}
  if old.holder and (not members or #members < #row.members) then gpu.seen['uid:' .. old.holder_uid] = true end
  if members then gpu.seen[string.find(row.key, '^u[a-z]*:') and row.key or 'unknown'] = true end
end

-- Adds up the entries between two changes of the holder, except the last one of each such run: reservations begin and
-- end between scans, so its end must stay where it is. Returns nil if the text cannot be read. Later entries replace those that are later (a clock set back).
local function added_up(text)
  local kept, parts, run, order, at = {}, {}, {}, {}, 0
  local good, entries = pcall(cjson.decode, '[' .. text .. ']')
  if not good then return nil end
  for _, entry in ipairs(entries) do
    while #kept > 0 and kept[#kept][1] > entry[1] do kept[#kept] = nil end
    kept[#kept + 1] = entry
  end
  for i, entry in ipairs(kept) do
    local ms, following = entry[1], kept[i + 1]
    if #order == 0 then at = ms end
    entry[1] = 0
    local said = string.sub(cjson.encode(entry), 3)
    if following and following[3] == entry[3] then
      if not run[said] then run[said], order[#order + 1] = 0, said end
      run[said] = run[said] + following[1] - ms
    else
      for _, one in ipairs(order) do
        parts[#parts + 1] = '[' .. whole(at) .. one
        at = at + run[one]
      end
      parts[#parts + 1] = '[' .. whole(ms) .. said
      run, order = {}, {}
    end
  end
  return table.concat(parts, ',')
end

local function append_use(usage, card, ms, said)
  local field = 'log/' .. whole(math.floor(ms / HOUR_MS)) .. '/' .. card
  local before = redis.call('HGET', usage, field)
  local entry = '[' .. whole(ms) .. ',' .. string.sub(said, 2)
  local text = (before and before .. ',' or '') .. entry
  if #text > LONGEST_LOG then text = added_up(text) or entry end
  redis.call('HSET', usage, field, text)
end

-- Keeps when a card was first seen, and its last index.
local function name_card(usage, card, index)
  local text = redis.call('HGET', usage, 'cards')
  local good, cards = pcall(cjson.decode, text or '')
  cards = good and type(cards) == 'table' and cards or {}
  if cards[card] and cards[card][2] == index then return end
  cards[card] = {cards[card] and cards[card][1] or now_ms, index}
  redis.call('HSET', usage, 'cards', cjson.encode(cards))
end

-- Returns whether the utilisation of a GPU in use has been low for long enough, and whether it is low.
local function is_low(key, gpu, old, rules, anew)
  local percent = known(gpu.utilization)
  if not gpu.seen or not percent or percent >= rules.low_percent then
    if old.low_ms then redis.call('HDEL', key, 'low_ms') end
    return false, false
  end
  local since_ms = not anew and tonumber(old.low_ms or nil) or now_ms
  if whole(since_ms) ~= old.low_ms then redis.call('HSET', key, 'low_ms', whole(since_ms)) end
  return now_ms - since_ms >= rules.low_ms, true
end

-- Returns an entry without its time. Most GPUs have no user, and need no JSON library.
local function entry_of(level, holder, seen)
  local head = '["' .. level .. '",' .. holder
  if not seen then return head .. ']' end
  local users = {}
  for user in pairs(seen) do users[#users + 1] = user end
  table.sort(users)
  users = cjson.encode({unpack(users, 1, MOST_USERS)})
  return head .. ',' .. string.sub(users, 2)
end

-- Logs what a scan saw of a GPU, if the scan before it, at `last_ms`, did not see the same. What happened in a gap
-- between scans is unknown. Returns whether the next scan, if it sees the same, has nothing to log for now.
local function log_use(usage, key, gpu, old, last_ms, rules)
  local card = gpu.uuid == '' and 'gpu' .. gpu.index or gpu.uuid
  local gap = old.logged and last_ms and now_ms - last_ms > rules.stale_ms
  local anew = gap or not last_ms or now_ms < last_ms or not old.logged or old.uuid ~= gpu.uuid
  if old.holder and gpu.exempt['uid:' .. old.holder_uid] then note_user(gpu, old, {key = 'unknown', members = {}}) end
  local level, low, below = 'free', is_low(key, gpu, old, rules, anew)
  if gpu.divided then
    level, gpu.seen = 'divided', nil
  elseif gpu.state ~= 'ok' then
    level, gpu.seen = 'unknown', nil
  elseif gpu.seen then
    level = low and 'idle' or 'busy'
  elseif old.drained or old.unmanaged then
    level = 'out'
  end
  local said = entry_of(level, old.holder and not gpu.divided and old.holder_uid or '-1', gpu.seen)
  local logged = TODAY .. said
  if logged == old.logged and not anew then return low == below end
  local another = old.logged and old.uuid ~= gpu.uuid
  if (gap or another) and last_ms then append_use(usage, another and old.uuid or card, last_ms, '["unknown",-1]') end
  append_use(usage, card, now_ms, said)
  name_card(usage, card, gpu.index)
  redis.call('HSET', key, 'logged', logged)
end
