-- claim: the state under a name becomes this service's, unless it changed since it was looked at.
-- Keys: scan
-- Args: owner seen
-- Returns: 1, 0 when somebody else was faster or is alive
-- Events:
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] and signs_of_life(KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'alive_ms', string.format('%.0f', now_ms))
return 1
