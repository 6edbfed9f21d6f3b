-- name: updates the user names of reservations and requests, and the limits of requests.
-- Keys: sequence events scan gpus reservations queue affinity ledger gpu...
-- Args: host rules names
-- Returns: the number of reservations and requests that had another name
-- Events: reservation.renamed request.renamed
local host, names, count = open_host(9), cjson.decode(ARGV[3]), 0

-- Returns the new name of the user of a reservation or a request and the old one, or nil if it is the same.
local function new_name(one)
  local new = names[whole(one.uid)]
  if new and new.name ~= one.user and not one.unreadable then
    count = count + 1
    return new, one.user
  end
end

for _, record in pairs(every_record(host)) do
  local new, formerly = new_name(record)
  if new then
    record.user = new.name
    save(record)
    for _, index in ipairs(record.gpus) do
      local gpu = host.by_index[index]
      if gpu and gpu.holder == record.id then redis.call('HSET', gpu.key, 'holder_user', record.user) end
    end
    publish('reservation.renamed', 'reservation/' .. record.id, facts_of(record, {formerly = formerly}))
  end
end
for _, request in ipairs(host.requests) do
  local new, formerly = new_name(request)
  if new then
    request.user, request.limit = new.name, new.limit
    redis.call('HSET', KEYS[6], request.id, cjson.encode(request))
    publish('request.renamed', 'request/' .. request.id, facts_of(request, {formerly = formerly}))
  end
end
return count
