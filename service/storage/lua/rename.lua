-- rename: moves all state of a host to its new name.
-- Keys: sequence events scan old key...
-- Args: host was owner seen machine
-- Returns: 1; 0 if the new name has state, or if a service is writing under the old one
-- Events: host.renamed
if signs_of_life(KEYS[4]) ~= ARGV[4] or redis.call('EXISTS', KEYS[1], KEYS[3]) > 0 then return 0 end
for position = 5, #KEYS, 2 do  -- Each old key is followed by its new name.
  if redis.call('EXISTS', KEYS[position]) == 1 then redis.call('RENAME', KEYS[position], KEYS[position + 1]) end
end
redis.call('HSET', KEYS[3], 'owner', ARGV[3], 'alive_ms', whole(now_ms))
publish('host.renamed', 'host', cjson.encode({name = ARGV[1], was = ARGV[2], machine = ARGV[5]}))
return 1
