-- witness: records the signals that were sent to processes, and their outcomes.
-- Keys: sequence events violations
-- Args: host signalled...
-- Returns: the number of records
-- Events: process.signalled
for position = 2, #ARGV do
  append_event({KEYS[2], KEYS[3]}, ARGV[1], next_id(KEYS[1]), 'canhazgpu.process.signalled',
    'violation/' .. cjson.decode(ARGV[position]).violation, ARGV[position])
end
return #ARGV - 1
