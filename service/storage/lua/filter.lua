-- filter: reads one page of a stream and returns the events whose type begins with `type` (empty: all) and whose data
-- contains one of `words` (none: all). It changes nothing.
-- Keys: stream
-- Args: start end count type words
-- Returns: the page's last entry (empty for the last page), and lines of JSON: entry type subject time data
-- Events:
local start, ends, count, kind, words = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], cjson.decode(ARGV[5])

local function contains_word(text)
  for _, word in ipairs(words) do
    if string.find(text, word, 1, true) then return true end
  end
  return #words == 0
end

local page, lines = redis.call('XRANGE', KEYS[1], start, ends, 'COUNT', count), {}
for _, entry in ipairs(page) do
  local event = {}
  for i = 1, #entry[2], 2 do event[entry[2][i]] = entry[2][i + 1] end
  local whole_event = event.specversion == '1.0' and event.type and event.subject and event.time and event.data
  if whole_event and string.sub(event.type, 1, #kind) == kind and contains_word(event.data) then
    local head = cjson.encode({entry[1], event.type, event.subject, event.time})
    lines[#lines + 1] = string.sub(head, 1, -2) .. ',' .. event.data .. ']'
  end
end
return {#page == count and page[count][1] or '', table.concat(lines, '\n')}
