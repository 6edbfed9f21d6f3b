-- stall: records that scans do not reach the driver. It publishes one event per reason, and a sign of life each time.
-- Keys: sequence events scan
-- Args: host reason remedy owner
-- Returns: now_ms
-- Events: scanner.stalled
local sequence, events, scan = KEYS[1], KEYS[2], KEYS[3]
local host, reason, remedy = ARGV[1], ARGV[2], ARGV[3]
if ARGV[4] ~= '' then check_fencing_token({owner = ARGV[4]}) end
redis.call('HSET', scan, 'alive_ms', string.format('%.0f', now_ms))
if redis.call('HGET', scan, 'stalled_reason') ~= reason then
  local id = next_id(sequence)
  redis.call('HSETNX', scan, 'stalled_ms', string.format('%.0f', now_ms))
  redis.call('HSET', scan, 'stalled_reason', reason, 'stalled_remedy', remedy)
  append_event({events}, host, id, 'canhazgpu.scanner.stalled', 'scanner',
    cjson.encode({reason = reason, remedy = remedy}))
end
return now_ms
