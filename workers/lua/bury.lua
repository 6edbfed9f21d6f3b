-- bury: moves a stream entry that cannot be read to the dead letters, unchanged.
-- Keys: stream deadletters
-- Args: consumer_group entry reason field...
-- Returns: 1 if it was pending, 0 if another worker has already handled it
-- Events:
local MOST = 4000 -- More arguments than this are stored as one text, because Lua can unpack fewer than 8000.
local stream, deadletters = KEYS[1], KEYS[2]
local consumer_group, entry, reason = ARGV[1], ARGV[2], ARGV[3]
local raw = {unpack(ARGV, 4, math.min(#ARGV, MOST))}
if #ARGV > MOST then raw = {'raw', table.concat(ARGV, '\n', 4)} end
if redis.call('XACK', stream, consumer_group, entry) == 0 then return 0 end
redis.call('XADD', deadletters, 'MAXLEN', '~', 10000, '*', 'time', now(), 'stream', stream, 'entry', entry,
  'channel', consumer_group, 'reason', reason, unpack(raw))
return 1
