-- lapse: ends silences whose time is over.
-- Keys: sequence events silences
-- Args: host
-- Returns: now_ms, next_ms (when the next one ends, 0 for none)
-- Events: silence.ended
local next_ms = 0
for id, text in pairs(pairs_of(KEYS[3])) do
  local silence = silence_of(text)
  if silence and silence.until_ms <= now_ms then
    silence.ended = silence['until']
    redis.call('HDEL', KEYS[3], id)
    publish('silence.ended', 'silence/' .. id, cjson.encode(silence))
  elseif silence and (next_ms == 0 or silence.until_ms < next_ms) then
    next_ms = silence.until_ms
  end
end
return {now_ms, next_ms}
