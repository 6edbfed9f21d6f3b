-- commit: stores the state of one group of notices, if nobody else has changed it, together with all consequences:
-- the time of the next check, the new notices, and the acknowledged events.
-- Notices of the kind terminate are counted, except in a dry run. More than `most` in an hour change nothing.
-- Keys: sequence groups due notices stream events terminations
-- Args: host group expected state due_ms consumer_group acks most notice...
-- Returns: 1 if stored, 0 if the state was not `expected`, 2 if there were too many terminations within the hour
-- Events: notice.created
local HOUR_MS = 3600 * 1000
local sequence, groups, due, notices, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local events, terminations = KEYS[6], KEYS[7]
local host, group, expected, state, due_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local consumer_group, acks, most = ARGV[6], cjson.decode(ARGV[7]), tonumber(ARGV[8])
if (redis.call('HGET', groups, group) or '') ~= expected then return 0 end
local ends = 0
for position = 9, #ARGV do
  local draft = cjson.decode(ARGV[position])
  if draft.kind == 'terminate' and not draft.dry_run then ends = ends + 1 end
end
local lately = ends > 0 and redis.call('ZCOUNT', terminations, string.format('(%.0f', now_ms - HOUR_MS), '+inf') or 0
if lately + ends > most and ends > 0 then return 2 end
if state == '' then redis.call('HDEL', groups, group) else redis.call('HSET', groups, group, state) end
if due_ms == '' then redis.call('ZREM', due, group) else redis.call('ZADD', due, due_ms, group) end
for position = 9, #ARGV do
  local id = next_id(sequence)
  local draft = cjson.decode(ARGV[position])
  local head = {notice = 'n' .. id, host = host, created = now()}
  if not draft.episode then head.episode = 'n' .. id end
  append_event({events, notices}, host, id, 'canhazgpu.notice.created', 'notice/n' .. id, splice(head, ARGV[position]))
  if draft.kind == 'terminate' and not draft.dry_run then redis.call('ZADD', terminations, string.format('%.0f', now_ms), 'n' .. id) end
end
if ends > 0 then
  redis.call('ZREMRANGEBYSCORE', terminations, '-inf', string.format('%.0f', now_ms - HOUR_MS))
end
for _, entry in ipairs(acks) do redis.call('XACK', stream, consumer_group, entry) end
return 1
