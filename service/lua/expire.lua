-- expire: ends every manual reservation whose time is over.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules
-- Returns: JSON: code (done, again), now_ms, next_ms (0 for none), expired, granted
-- Events: reservation.created reservation.released
local host = open_host(10)
if host.incomplete then return cjson.encode({code = 'again'}) end
local expired, next_ms = {}, 0
for id, record in pairs(host.records) do
  if record.expires_ms and record.expires_ms <= now_ms then
    expired[#expired + 1] = id
    free(host, record, record.gpus, 'expired')
  elseif record.expires_ms and (next_ms == 0 or record.expires_ms < next_ms) then
    next_ms = record.expires_ms
  end
end
if #expired > 0 then walk(host) end
return cjson.encode({code = 'done', now_ms = now_ms, next_ms = next_ms, expired = expired, granted = host.granted})
