-- replay: moves a dead letter back to the stream that it came from.
-- Keys: deadletters stream
-- Args: letter
-- Returns: 1 if it was moved, 0 if there is no such letter
-- Events:
local letters = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #letters == 0 then return 0 end
local fields, raw = letters[1][2], {}
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 4) == 'raw:' then
    raw[#raw + 1] = string.sub(fields[i], 5)
    raw[#raw + 1] = fields[i + 1]
  end
end
if #raw == 0 then return 0 end
append(KEYS[2], raw)
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
