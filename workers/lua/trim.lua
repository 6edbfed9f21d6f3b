-- trim: drops a stream's entries older than a time, but none that a consumer group still needs.
-- Keys: stream
-- Args: keep_ms
-- Returns: how many were dropped
-- Events:
local stream, keep_ms = KEYS[1], tonumber(ARGV[1])
if redis.call('EXISTS', stream) == 0 then return 0 end
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local ms, seq = now_ms - keep_ms, 0
local function lower(id)
  local other_ms, other_seq = parts(id)
  if other_ms < ms or (other_ms == ms and other_seq < seq) then ms, seq = other_ms, other_seq end
end
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  lower(group['last-delivered-id'])
  local pending = redis.call('XPENDING', stream, group['name'])
  if pending[1] > 0 then lower(pending[2]) end
end
if ms <= 0 then return 0 end
return redis.call('XTRIM', stream, 'MINID', string.format('%.0f-%d', ms, seq))
