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
