-- label: gives a reservation that a scheduler holds another label, if it still exists.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules request
-- Returns: JSON: code (done, none, again)
-- Events: reservation.labelled
local host, request = open_host(10), cjson.decode(ARGV[3])
local before = redis.call('GET', KEYS[9])
if before then return before end
if host.incomplete then return cjson.encode({code = 'again'}) end

local record = host.records[request.id]
if not record or record.unreadable or record.kind ~= request.kind then return save_reply(host, {code = 'none'}) end
if record.label ~= request.label then
  record.label = request.label
  save(record)
  publish('reservation.labelled', 'reservation/' .. record.id, facts_of(record))
end
return save_reply(host, {code = 'done'})
