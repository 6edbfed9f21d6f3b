-- witness: says of processes that they were told to end, or what became of it.
-- Keys: sequence events violations
-- Args: host signalled...
-- Returns: how many
-- Events: process.signalled
for position = 2, #ARGV do
  append_event({KEYS[2], KEYS[3]}, ARGV[1], next_id(KEYS[1]), 'canhazgpu.process.signalled',
    'violation/' .. cjson.decode(ARGV[position]).violation, ARGV[position])
end
return #ARGV - 1
