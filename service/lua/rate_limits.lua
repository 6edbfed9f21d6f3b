-- Limits the number of events that a user can cause: first a number of free ones, then one per UPDATE_MS.
-- A level counts the used free ones; it falls by one per UPDATE_MS.
local UPDATE_MS = 60 * 1000
local FREE_UPDATES = 5  -- Per violation. Then one per UPDATE_MS, and in a long violation one per tenth of its age.
local FREE_CHANGES = 60  -- Per GPU: changes of its state, its users or its use.
local FREE_ENDS = 60  -- Per user and GPU: ends of violations. All containers whose users are not proven share it.

local function level_now(level, at_ms) return math.max(0, level - (now_ms - at_ms) / UPDATE_MS) end

-- Returns whether an update that only concerns the processes of the same user may be published now.
local function due_for_update(record)
  if (record.updates or 0) < FREE_UPDATES then return true end
  return now_ms - record.updated_ms >= math.max(UPDATE_MS, (now_ms - record.since_ms) / 10)
end

-- Returns the user of a violation who can cause its end: whoever starts containers chooses what they hint at.
local function group_of(name) return string.match(name, '^containers') or name end

-- Returns whether so many violations of a user have ended lately that the next ones are kept open; `old` is the GPU's hash.
local function ends_often(old, name)
  local one = old.ends and cjson.decode(old.ends)[group_of(name)]
  return one ~= nil and level_now(one.level, one.at_ms) > FREE_ENDS - 1
end

-- Returns whether a violation that the scan did not see counts as ended; `old` is the GPU's hash. If a user starts
-- and stops very often, the violation stays open until the user has stayed away for UPDATE_MS.
local function has_ended(key, old, name, record)
  if (record.kind == 'trespass') ~= (old.holder ~= nil) then return true end
  local left, often = {}, ends_often(old, name)
  name = group_of(name)
  for user, one in pairs(old.ends and cjson.decode(old.ends) or {}) do
    local level = level_now(one.level, one.at_ms)
    if level > 0 then left[user] = {level = level, at_ms = now_ms} end
  end
  local level = left[name] and left[name].level or 0
  if often and now_ms - (record.unused_ms or now_ms) < UPDATE_MS then return false end
  left[name] = {level = math.min(level + 1, FREE_ENDS), at_ms = now_ms}
  old.ends = cjson.encode(left)
  redis.call('HSET', key, 'ends', old.ends)
  return true
end

