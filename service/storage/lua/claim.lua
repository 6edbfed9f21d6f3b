-- claim: makes this service the owner of the state under a name, unless the state has changed since it was read.
-- Keys: scan
-- Args: owner seen
-- Returns: 1; 0 if another service was faster or is running
-- Events:
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] and signs_of_life(KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'alive_ms', string.format('%.0f', now_ms))
return 1
