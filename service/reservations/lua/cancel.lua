-- cancel: removes requests of one user from the queue, for that user or an administrator. The GPUs that they claimed go
-- to the requests behind them. `ids` are ids or beginnings of ids; without them and `all`, the only request is meant.
-- Keys: sequence events scan gpus reservations queue affinity ledger operation gpu...
-- Args: host rules request
-- Returns: JSON: code (done, several, not-yours, missing, again), id, ids, users, cancelled, granted
-- Events: reservation.created request.left
local host, order = open_host(10), cjson.decode(ARGV[3])
local before = redis.call('GET', KEYS[9])
if before then return before end
if host.incomplete then return cjson.encode({code = 'again'}) end
local theirs, chosen = {}, {}

-- Chooses the requests of the user; returns why that is not possible, or nil.
local function choose(requests, id)
  local own, users, ids = {}, {}, {}
  for _, request in ipairs(requests) do
    if is_own(request, order) then
      own[#own + 1], ids[#ids + 1] = request, request.id
    else
      users[#users + 1] = request.user
    end
  end
  if id and #own == 0 then return {code = #users > 0 and 'not-yours' or 'missing', id = id, users = users} end
  if #own > 1 and not order.all then return {code = 'several', id = id, ids = ids} end
  for _, request in ipairs(own) do chosen[request.id] = true end
end

-- Returns the request with this id, or those whose ids begin like it.
local function named(id)
  local found = {}
  for _, request in ipairs(host.requests) do
    if request.id == id then return {request} end
    if string.sub(request.id, 1, #id) == id then found[#found + 1] = request end
  end
  return found
end

for _, request in ipairs(host.requests) do
  if is_own(request, order) then theirs[#theirs + 1] = request end
end
local trouble = not order.ids and choose(theirs)
for _, id in ipairs(order.ids or {}) do trouble = trouble or choose(named(id), id) end
if trouble then return save_reply(host, trouble) end
local staying, cancelled = {}, {}
for _, request in ipairs(host.requests) do
  if chosen[request.id] then
    leave(request, 'cancelled', order.by)
    cancelled[#cancelled + 1] = {id = request.id, user = request.user, kind = request.kind, count = needed(request),
      profile = request.profile, gpus = request.gpus, note = request.note}
  else
    staying[#staying + 1] = request
  end
end
host.requests = staying
if #cancelled > 0 then serve_queue(host) end
return save_reply(host, {code = 'done', cancelled = cancelled})
