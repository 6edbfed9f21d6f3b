-- conclude: a run's process has ended. Its GPUs are free when a later scan finds nothing of it on them.
-- Keys: sequence events scan gpus reservations
-- Args: host id
-- Returns: 1 when it was running, 0 when it had ended before or was released
-- Events: reservation.ended
local text = redis.call('HGET', KEYS[5], ARGV[2])
local record = text and record_of(text)
if not record or record.ended_ms then return 0 end
record.ended_ms = now_ms
save(record)
publish('reservation.ended', 'reservation/' .. record.id, facts_of(record))
return 1
