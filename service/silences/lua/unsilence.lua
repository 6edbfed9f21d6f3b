-- unsilence: ends a silence early. Administrators can end any silence, users only their own acknowledgements.
-- Keys: sequence events silences acks operation
-- Args: host request
-- Returns: JSON: code (ended, none, not-yours), silence
-- Events: silence.ended
local request = cjson.decode(ARGV[2])
local before = redis.call('GET', KEYS[5])
if before then return before end

local function reply(answer)
  local text = cjson.encode(answer)
  redis.call('SET', KEYS[5], text, 'PX', OPERATION_KEPT_MS)
  return text
end

local text = redis.call('HGET', KEYS[3], request.id)
local silence = text and silence_of(text)
if not silence or silence.until_ms <= now_ms then return reply({code = 'none'}) end
local own = silence.ack and silence.by_uid == request.uid
if not own and not request.admin then return reply({code = 'not-yours', silence = silence}) end
silence.ended, silence.ended_by = now(), request.by
redis.call('HDEL', KEYS[3], silence.id)
if silence.ack then redis.call('HSET', KEYS[4], whole(silence.by_uid), whole(now_ms)) end
publish('silence.ended', 'silence/' .. silence.id, cjson.encode(silence))
return reply({code = 'ended', silence = silence})
