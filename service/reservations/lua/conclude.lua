-- conclude: records that a run's process has ended. A later scan frees its GPUs if none of its processes is left.
-- Keys: sequence events scan gpus reservations
-- Args: host id
-- Returns: 1 if it was running, 0 if it had already ended or was released
-- Events: reservation.ended
local text = redis.call('HGET', KEYS[5], ARGV[2])
local record = text and record_of(text)
if not record or record.ended_ms then return 0 end
record.ended_ms = now_ms
save(record)
publish('reservation.ended', 'reservation/' .. record.id, facts_of(record))
return 1
