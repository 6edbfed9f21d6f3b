-- bury: moves a stream entry nobody can read to the dead letters, as it is, and goes on without it.
-- Keys: stream deadletters
-- Args: consumer_group entry reason field...
-- Returns: 1 when it was pending, 0 when somebody else dealt with it
-- Events:
local stream, deadletters = KEYS[1], KEYS[2]
local consumer_group, entry, reason = ARGV[1], ARGV[2], ARGV[3]
if redis.call('XACK', stream, consumer_group, entry) == 0 then return 0 end
redis.call('XADD', deadletters, 'MAXLEN', '~', 10000, '*', 'time', now, 'stream', stream, 'entry', entry,
  'channel', consumer_group, 'reason', reason, unpack(ARGV, 4))
return 1
