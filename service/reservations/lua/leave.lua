-- leave: removes requests from the queue. The GPUs that they claimed go to the requests behind them.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules reason id...
-- Returns: JSON: code (left, none, again), granted
-- Events: reservation.created request.left
local host = open_host(10)
if host.incomplete then return cjson.encode({code = 'again'}) end
local staying, left = {}, 0
for _, request in ipairs(host.requests) do
  local leaves = false
  for position = 4, #ARGV do leaves = leaves or request.id == ARGV[position] end
  if leaves then
    leave(request, ARGV[3])
    left = left + 1
  else
    staying[#staying + 1] = request
  end
end
host.requests = staying
if left > 0 then serve_queue(host) end
return cjson.encode({code = left > 0 and 'left' or 'none', granted = host.granted})
