-- silence: suppresses notices about some violations for a time. An acknowledgement is a silence of a user's own open
-- violations. It is possible once per episode, which `ack_max_ms` ensures.
-- Keys: sequence events silences open acks operation
-- Args: host request
-- Returns: JSON: code (added, none, acknowledged), silence, until_ms (the end of the earlier acknowledgement)
-- Events: silence.added
local request = cjson.decode(ARGV[2])
local before = redis.call('GET', KEYS[6])
if before then return before end

local function reply(answer)
  local text = cjson.encode(answer)
  redis.call('SET', KEYS[6], text, 'PX', OPERATION_KEPT_MS)
  return text
end

local silence = request.silence
local uid = whole(silence.by_uid)
if silence.ack then
  local last_ms, own = tonumber(redis.call('HGET', KEYS[5], uid) or 0), 0
  local barred = now_ms < last_ms + request.ack_max_ms
  silence.gpus = {}
  for field, text in pairs(pairs_of(KEYS[4])) do
    local violation = violation_of(text)
    local use = violation and cjson.decode(violation.body) or {}
    local theirs = use.person == silence.user or (use.person ~= cjson.null and use.uid == silence.by_uid)
    if violation and theirs and not violation.holder then
      own = own + 1
      silence.gpus[own] = tonumber(string.match(field, '^%d+'))
      barred = barred or violation.since_ms <= last_ms
    end
  end
  if own == 0 then return reply({code = 'none'}) end
  if barred then return reply({code = 'acknowledged', until_ms = last_ms}) end
end
silence.id = 's' .. next_id(KEYS[1])
silence.since, silence.until_ms = now(), now_ms + request.for_ms
silence['until'] = rfc3339(silence.until_ms)
if silence.ack then redis.call('HSET', KEYS[5], uid, whole(silence.until_ms)) end
redis.call('HSET', KEYS[3], silence.id, cjson.encode(silence))
publish('silence.added', 'silence/' .. silence.id, cjson.encode(silence))
return reply({code = 'added', silence = silence})
