-- Rows of a scan: the users of a GPU, and which row continues which violation.

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
  local candidate = candidate_of(pending[plain])
  for field, row in pairs(rows) do
    if string.sub(field, 1, #plain + 1) == plain .. ':' and not open[field] then
      if open[plain] and same_processes(cjson.decode(open[plain]), row) then moved = field end
      if candidate and not pending[field] and began_by(row.members, candidate.seen_ms) then pending[field] = pending[plain] end
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
local function fold_hints(prefix, rows, old)
  local plain, hinted = prefix .. 'containers', {}
  for field in pairs(rows) do
    if string.sub(field, 1, #plain + 1) == plain .. ':' then hinted[#hinted + 1] = field end
  end
  if #hinted == 0 or (#hinted <= MOST_HINTS and not ends_often(old, 'containers')) then return end
  table.sort(hinted)
  rows[plain] = rows[plain] or {key = 'containers', heads = {}, members = {}, memory_mb = rows[hinted[1]].memory_mb}
  for _, field in ipairs(hinted) do
    add_without_hint(rows[plain], rows[field])
    rows[field] = nil
  end
end
