-- expire: ends manual reservations whose time is over. It announces the end of the others once, shortly before, but
-- not if the whole reservation is short.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules
-- Returns: JSON: code (done, again), now_ms, next_ms (when to check again, 0 for never), expired, granted
-- Events: reservation.created reservation.expiring reservation.released
local host = open_host(10)
if host.incomplete then return cjson.encode({code = 'again'}) end
local warning_ms = host.rules.warning_ms  -- With 0, the announcement would come at the end itself, so there is none.
local expired, next_ms = {}, 0

local function announce(record)
  record.warned_ms = record.expires_ms
  save(record)
  publish('reservation.expiring', 'reservation/' .. record.id, facts_of(record, {deadline = rfc3339(record.expires_ms)}))
end

for id, record in pairs(every_record(host)) do
  local ends_ms = record.expires_ms
  if ends_ms and ends_ms <= now_ms then
    expired[#expired + 1] = id
    release(host, record, record.gpus, 'expired')
  elseif ends_ms then
    local warns = record.warned_ms ~= ends_ms and ends_ms - record.started_ms >= 2 * warning_ms
    if warns and ends_ms - warning_ms <= now_ms then
      announce(record)
      warns = false
    end
    local look_ms = warns and ends_ms - warning_ms or ends_ms
    if next_ms == 0 or look_ms < next_ms then next_ms = look_ms end
  end
end
if #expired > 0 then serve_queue(host) end
return cjson.encode({code = 'done', now_ms = now_ms, next_ms = next_ms, expired = expired, granted = host.granted})
