-- How often a user's doings are told: so many times as they come, and then one in UPDATE_MS. A level says how many
-- of those that come free were used up; it falls by one in UPDATE_MS.
local UPDATE_MS = 60 * 1000
local FREE_UPDATES = 5  -- Of one violation; then one in UPDATE_MS, and in a long one one in a tenth of its age.
local FREE_CHANGES = 60  -- Of who uses a GPU, and whether.
local FREE_ENDS = 60  -- Of one user's violations on a GPU.

local function level_now(level, at_ms) return math.max(0, level - (now_ms - at_ms) / UPDATE_MS) end

-- Whether an update that only the user's own processes make may be published now.
local function due_for_update(record)
  if (record.updates or 0) < FREE_UPDATES then return true end
  return now_ms - record.updated_ms >= math.max(UPDATE_MS, (now_ms - record.since_ms) / 10)
end

-- Whether a violation that a scan does not see any more has ended; then its user has made one more end. Who goes
-- on and off a GPU again and again has one violation until they have stayed away for UPDATE_MS. `old`: the GPU.
local function has_ended(key, old, name, record)
  if (record.kind == 'trespass') ~= (old.holder ~= nil) then return true end
  local left = {}
  for user, one in pairs(old.ends and cjson.decode(old.ends) or {}) do
    local level = level_now(one.level, one.at_ms)
    if level > 0 then left[user] = {level = level, at_ms = now_ms} end
  end
  local level = left[name] and left[name].level or 0
  if level > FREE_ENDS - 1 and now_ms - (record.unused_ms or now_ms) < UPDATE_MS then return false end
  left[name] = {level = math.min(level + 1, FREE_ENDS), at_ms = now_ms}
  old.ends = cjson.encode(left)
  redis.call('HSET', key, 'ends', old.ends)
  return true
end

