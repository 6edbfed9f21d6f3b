-- Shared by the scripts of the service: cards that are divided into MIG instances, each of which is a GPU of its own.
-- Invariant: who holds a card holds its instances, so nobody has a card while somebody else has an instance of it.

-- Returns the instances of a card. Most hosts have none.
local NO_INSTANCES = {}
local function instances_of(host, index) return host.instances and host.instances[index] or NO_INSTANCES end

-- Returns the indices of GPUs with those of their instances, in order.
local function with_instances(host, indices)
  if not host.instances then return indices end
  local found, seen = {}, {}
  local function add(index)
    if not seen[index] then found[#found + 1] = index end
    seen[index] = true
  end
  for _, index in ipairs(indices) do
    add(index)
    for _, instance in ipairs(instances_of(host, index)) do add(instance.index) end
  end
  table.sort(found)
  return found
end

-- Returns whether a GPU is a whole one: a number of GPUs is of those that are not divided into instances.
local function is_whole(host, gpu) return gpu.index < FIRST_INSTANCE and not (host.instances and host.instances[gpu.index]) end

-- Returns whether a GPU is of the kind that a request asks for: of the vendor, and an instance of the profile or, if a
-- number of GPUs is asked for, not divided into instances. Names in its usage have no such text, because their quotation
-- marks are escaped.
local function is_of(host, gpu, request)
  if request.profile then
    return gpu.index >= FIRST_INSTANCE and string.find(gpu.text or '', '"profile":"' .. request.profile .. '"', 1, true) ~= nil
  end
  if host.instances and not request.gpus and not is_whole(host, gpu) then return false end
  if not request.vendor then return true end
  return request.vendor == (gpu.text and string.find(gpu.text, '"vendor":"amd"', 1, true) and 'amd' or 'nvidia')
end

-- Returns why a request cannot have the instances of a card, which it would get with the card, or nil if it can; then also
-- whether the user's own processes use one, or `own`. `obstacle` returns the same for one GPU.
local function obstacle_within(host, card, request, claimed, own, obstacle)
  for _, instance in ipairs(instances_of(host, card.index)) do
    local why, also = obstacle(host, instance, request)
    why = why or (claimed[instance.index] and 'claimed')
    if why then return why end
    own = own or also
  end
  return nil, own
end

-- Returns whether an administrator must do something before a GPU, or an instance of it, can be allocated.
local function is_out(host, gpu)
  local out = gpu.unmanaged or gpu.drained or gpu.state == 'error'
  for _, instance in ipairs(instances_of(host, gpu.index)) do out = out or is_out(host, instance) end
  return out
end

-- Returns whether a GPU counts for itself: an instance does not if its card has the same holder.
local function counts_for_itself(host, gpu)
  local card = gpu.index >= FIRST_INSTANCE and host.by_index[card_of(gpu.index)]
  return not card or card.holder ~= gpu.holder
end

-- Returns what a reservation loses with these GPUs: a card goes with its instances, and is not held as a whole without
-- one of them, unless the instance no longer exists.
local function lost_with(host, record, gpus, reason)
  if not host.instances then return gpus end
  local lost, found = {}, {}
  for _, index in ipairs(with_instances(host, gpus)) do lost[index] = true end
  for _, index in ipairs(gpus) do
    if index >= FIRST_INSTANCE and reason ~= 'vanished' then lost[card_of(index)] = true end
  end
  for _, index in ipairs(record.gpus) do
    if lost[index] then found[#found + 1] = index end
  end
  return found
end
