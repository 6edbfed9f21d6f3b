-- commit: sets the state of one group of notices, if nobody else did meanwhile, with all that follows
-- from it: when to look at it again, the notices that tell of it, the facts that are dealt with.
-- Keys: sequence groups due notices violations events
-- Args: host group expected state due_ms consumer_group acks notice...
-- Returns: 1 when done, 0 when the state was not `expected`
-- Events: notice.created
local sequence, groups, due, notices, violations = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local events = KEYS[6]
local host, group, expected, state, due_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local consumer_group, acks = ARGV[6], cjson.decode(ARGV[7])
if (redis.call('HGET', groups, group) or '') ~= expected then return 0 end
if state == '' then redis.call('HDEL', groups, group) else redis.call('HSET', groups, group, state) end
if due_ms == '' then redis.call('ZREM', due, group) else redis.call('ZADD', due, due_ms, group) end
for position = 8, #ARGV do
  local id = next_id(sequence)
  local data = splice({notice = 'n' .. id, host = host, created = now}, ARGV[position])
  publish({events, notices}, 100000, host, id, 'canhazgpu.notice.created', 'notice/n' .. id, data)
end
for _, entry in ipairs(acks) do redis.call('XACK', violations, consumer_group, entry) end
return 1
