-- Shared by the scripts of the service: reads the state of a host. Reservations and the queue, which may be many, are
-- read when a script first asks for one: `host.records[id]`, `every_record(host)`, `host.requests`.
-- Keys 1 to 8 of a script that opens a host: sequence events scan gpus reservations queue affinity ledger.
-- Its first two arguments are the host's name and the rules (service/storage/policy.py) as JSON.
local function pairs_of(key)
  local flat, map = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

local function whole(number) return string.format('%.0f', number) end

-- Returns a reservation, or nil. One that cannot be read still holds its GPUs, until its user or an administrator
-- releases it.
local function read_record(host, id)
  local text = redis.call('HGET', KEYS[5], id)
  local record = text and record_of(text)
  if record then return record end
  for _, gpu in ipairs(host.gpus) do
    if gpu.holder == id then
      record = record or {id = id, kind = 'manual', user = gpu.holder_user or '', uid = tonumber(gpu.holder_uid) or 0,
        login_uid = tonumber(gpu.holder_login or nil), gpus = {}, started_ms = now_ms, unreadable = true}
      table.insert(record.gpus, gpu.index)
    end
  end
  return record
end

-- Returns all reservations by id.
local function every_record(host)
  for id, text in pairs(pairs_of(KEYS[5])) do
    if not rawget(host.records, id) then host.records[id] = record_of(text) end
  end
  for _, gpu in ipairs(host.gpus) do
    local _ = gpu.holder and host.records[gpu.holder]
  end
  return host.records
end

-- Returns the queue in its order.
local function read_queue()
  local requests = {}
  for _, text in ipairs(redis.call('HVALS', KEYS[6])) do requests[#requests + 1] = request_of(text) end
  table.sort(requests, function(a, b) return a.place < b.place end)
  return requests
end

-- MIG instances have indices from this one on (events/spelling/gpu_numbers.py).
local FIRST_INSTANCE = 1024

-- Returns the index of the card that an instance is a part of.
local function card_of(index) return math.floor(index / FIRST_INSTANCE) - 1 end

-- The fields of a GPU that few scripts need.
local SELDOM = {disowned = true, holder_user = true, holder_uid = true, holder_login = true}
local GPU = {__index = function(gpu, name)
  if not SELDOM[name] then return nil end
  gpu[name] = redis.call('HGET', gpu.key, name)
  return gpu[name]
end}
local HOST = {__index = function(host, name)
  if name ~= 'requests' then return nil end
  host.requests = read_queue()
  return host.requests
end}

-- Opens the host. The keys of its GPUs start at `first_gpu`.
local function open_host(first_gpu)
  local host = setmetatable({rules = check_fencing_token(cjson.decode(ARGV[2])), gpus = {}, by_index = {}, instances = false, granted = {}}, HOST)
  host.records = setmetatable({}, {__index = function(records, id)
    records[id] = read_record(host, id)
    return rawget(records, id)
  end})
  local scan = redis.call('HMGET', KEYS[3], 'at_ms', 'began_ms', 'stalled_ms', 'windows')
  host.promised = scan[4]
  host.began_ms = tonumber(scan[2] or 0)
  host.blind = not scan[1] or scan[3] or now_ms - tonumber(scan[1]) > host.rules.stale_ms
  local prefix = string.match(KEYS[first_gpu] or '', '^.*:gpu:()')
  for position = first_gpu, #KEYS do
    local key = KEYS[position]
    local name, facts = string.sub(key, prefix), redis.call('HMGET', key, 'state', 'usage', 'holder',
      'last_released', 'drained', 'unmanaged', 'uuid', 'unseen')
    local gpu = setmetatable({key = key, name = name, index = tonumber(name), state = facts[1], text = facts[2],
      holder = facts[3], released_ms = tonumber(facts[4] or 0), drained = facts[5], unmanaged = facts[6],
      uuid = facts[7], unseen = facts[8]}, GPU)
    host.gpus[#host.gpus + 1] = gpu
    host.by_index[gpu.index] = gpu
    if gpu.index >= FIRST_INSTANCE then  -- By card; false if there are none.
      host.instances = host.instances or {}
      local card = card_of(gpu.index)
      host.instances[card] = host.instances[card] or {}
      table.insert(host.instances[card], gpu)
    end
  end
  local listed = redis.call('ZRANGE', KEYS[4], 0, -1)
  host.incomplete = #listed ~= #host.gpus
  for _, index in ipairs(listed) do host.incomplete = host.incomplete or not host.by_index[tonumber(index)] end
  return host
end

local function usage_of(gpu)
  if not gpu.usage then gpu.usage = cjson.decode(gpu.text) end
  return gpu.usage
end

-- Returns whether a GPU is in use. To see that it is not, its usage need not be parsed. Names in it have no such text,
-- because their quotation marks are escaped.
local function is_used(gpu)
  if gpu.used == nil then gpu.used = not string.find(gpu.text, '"in_use":false', 1, true) and usage_of(gpu).in_use end
  return gpu.used
end

-- Stores with a GPU which login its holder comes from, and when the reservation began on the clock of the boot.
local function hold_from(key, record)
  if record.login_uid then redis.call('HSET', key, 'holder_login', record.login_uid) end
  redis.call('HDEL', key, 'holder_up')
  if record.boot and record.up then redis.call('HSET', key, 'holder_up', record.boot .. ' ' .. whole(record.up)) end
end
