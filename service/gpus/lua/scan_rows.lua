-- Rows of a scan: the users of a GPU, and which row continues which violation.

-- Splits the text of a scan (service/gpus/observation.py): of each GPU its usage and its row, a line each.
local function split_scan(text)
  local gpus, from = {}, 1
  while from <= #text do
    local middle = string.find(text, '\n', from, true)
    local past = string.find(text, '\n', middle + 1, true)
    gpus[#gpus + 1] = {usage = string.sub(text, from, middle - 1), row = string.sub(text, middle + 1, past - 1)}
    from = past + 1
  end
  return gpus
end

-- Parses the row of a GPU, which adds what is known of the GPU and its users to it.
local function parse_gpu(gpu)
  for name, value in pairs(cjson.decode(gpu.row)) do gpu[name] = value end
  gpu.outline = table.concat({gpu.state, known(gpu.reason) or '', gpu.in_use and 'in use' or '', gpu.names, gpu.uuid}, ' ')
  return gpu
end

-- Returns a GPU as JSON, as events show it.
local function summary_of(gpu)
  local facts = {}
  for _, name in ipairs({'index', 'uuid', 'name', 'state', 'reason', 'remedy', 'in_use', 'memory_mb'}) do facts[name] = gpu[name] end
  return splice(facts, '{"users":' .. gpu.names .. '}')
end

-- Returns a process as JSON, which is a part of the usage.
local function process_of(gpu, member) return string.sub(gpu.usage, member.from, member.to) end

-- Returns the values of a hash by the index of the GPU and the field. What cannot be parsed is false.
local function by_gpu(map, parse)
  local found = setmetatable({}, {__index = function(all, index)
    all[index] = {}
    return all[index]
  end})
  for field, text in pairs(map) do
    local index = tonumber((string.match(field, '^(%d+)/')))
    if index then found[index][field] = parse(text) or false end
  end
  return found
end

local MOST_AT_ONCE = 1000  -- Arguments of a command.

-- Returns the description of a row's user for these members only. It contains nothing about the other members.
local function head_of(row, members)
  local first, users, more = nil, {}, -1
  for _, member in ipairs(members) do first = math.min(first or #row.heads, member.head or 1) end
  local head = row.heads[first or 1]
  for _, member in ipairs(members) do
    local user = row.heads[member.head or 1].user
    if not users[user] then users[user], more = true, more + 1 end
  end
  local user = more > 0 and head.user .. ' and ' .. more .. ' more' or head.user
  return head, splice({user = user}, head.facts)
end

-- Parses a candidate: the start of the current use, the total time of use, and when it was last seen.
local function candidate_of(text)
  local since, used, seen = string.match(text or '', '^(%d+):(%d+):(%d+)$')
  return since and {since_ms = tonumber(since), used_ms = tonumber(used), seen_ms = tonumber(seen)}
end

local function same_processes(record, row)
  local before = {}
  for _, process in ipairs(cjson.decode(record.body).processes) do
    if known(process.start) then before[string.format('%.0f.%.0f', process.pid, process.start)] = true end
  end
  for _, member in ipairs(row.members) do
    if before[member.shape] then return true end
  end
end

local function began_by(members, moment_ms)
  for _, member in ipairs(members) do
    if member.began_ms and member.began_ms <= moment_ms then return true end
  end
end

-- A hint that is found later does not change who uses the GPU. If the processes of containers without a hint are now
-- in a row with a hint, their violation or candidate continues there.
local function go_on(prefix, rows, open, pending)
  local plain, moved = prefix .. 'containers', nil
  if rows[plain] or not (open[plain] or pending[plain]) then return end
  local candidate = pending[plain]
  for field, row in pairs(rows) do
    if string.sub(field, 1, #plain + 1) == plain .. ':' and not open[field] then
      if open[plain] and same_processes(open[plain], row) then moved = field end
      if candidate and not pending[field] and began_by(row.members, candidate.seen_ms) then
        pending[field] = {since_ms = candidate.since_ms, used_ms = candidate.used_ms, seen_ms = candidate.seen_ms}
      end
    end
  end
  if moved then
    rows[plain], rows[moved] = rows[moved], nil
    rows[plain].key = 'containers'
  end
end

local MOST_HINTS = 8  -- Users at whom the containers on a GPU hint that have a violation each.

local function add_without_hint(row, more)
  local offset = #row.heads
  for _, head in ipairs(more.heads) do
    local facts = cjson.decode(head.facts)
    facts.hint = cjson.null
    head.facts, head.known_by = cjson.encode(facts), facts.evidence
    row.heads[#row.heads + 1] = head
  end
  for _, member in ipairs(more.members) do
    member.head = (member.head or 1) + offset
    row.members[#row.members + 1] = member
  end
end

-- Puts all containers of a GPU into the row without a hint if they hint at many users, or if violations of containers
-- end very often there. Whoever starts them chooses what they hint at, and must not choose how many events there are.
-- Returns whether a later scan of the same containers may not do so.
local function fold_hints(prefix, rows, old)
  local plain, hinted = prefix .. 'containers', {}
  for field in pairs(rows) do
    if string.sub(field, 1, #plain + 1) == plain .. ':' then hinted[#hinted + 1] = field end
  end
  if #hinted == 0 or (#hinted <= MOST_HINTS and not ends_often(old, 'containers')) then return false end
  table.sort(hinted)
  rows[plain] = rows[plain] or {key = 'containers', heads = {}, members = {}, memory_mb = rows[hinted[1]].memory_mb}
  for _, field in ipairs(hinted) do
    add_without_hint(rows[plain], rows[field])
    rows[field] = nil
  end
  return #hinted <= MOST_HINTS
end

-- Returns the reservation that holds a GPU, with the fields that decide about ownership, or nil.
local function holder_of(old)
  local boot, up = string.match(old.holder_up or '', '^(%S+) (%d+)$')
  return old.holder and {id = old.holder, user = old.holder_user, uid = tonumber(old.holder_uid), login_uid = tonumber(old.holder_login),
    boot = boot, up = tonumber(up), started_ms = tonumber(old.holder_since) or 0}
end

-- Returns the members of a row that use the GPU without a right to it, or nil. If a GPU is reserved, memory without
-- a process is not held against anybody, unless the holder has disowned it.
local function without_right(rules, old, row)
  local holder, found = holder_of(old), {}
  if not holder then return row.members end
  if row.key == 'unknown' and not (old.disowned and cjson.decode(old.disowned)[row.key]) then return nil end
  for _, member in ipairs(row.members) do
    if not has_right(rules, old, holder, member) then found[#found + 1] = member end
  end
  if #found > 0 or #row.members == 0 then return found end
end

local function overstays(old, row)
  local uid, login_uid = tonumber(old.expired_uid), tonumber(old.expired_login)
  for _, member in ipairs(row.members) do
    if of_user(member, uid, login_uid) then return true end
  end
  return false
end
