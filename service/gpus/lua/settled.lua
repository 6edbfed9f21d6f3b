-- Most scans are the same as the one before. If that one changed nothing, and nothing else has changed since, its GPUs
-- need not be judged again. They are at least once a minute, whatever has happened to the data.

-- Returns what `settled` is after a scan that changed nothing but the times of candidates; `digests` are those of its GPUs.
-- Every script that changes the state of GPUs publishes an event, which increments the sequence, or deletes `settled`.
local function settled_as(digests, candidates)
  return table.concat({digests, redis.call('GET', KEYS[1]) or '', math.floor(now_ms / 60000), candidates}, ' ')
end

-- Returns whether this scan, too, changes nothing else. `settled` and `last_ms` are those of the last scan.
local function is_settled(settled, last_ms, digests, pending, confirm_ms, longest_ms)
  if not settled or not last_ms or now_ms < last_ms or now_ms - last_ms > longest_ms then return false end
  local candidates = 0
  for _, fields in pairs(pending) do
    for _, one in pairs(fields) do
      if not one or one.seen_ms < last_ms or one.used_ms + now_ms - one.seen_ms >= confirm_ms then return false end
      candidates = candidates + 1
    end
  end
  return settled == settled_as(digests, candidates)
end
