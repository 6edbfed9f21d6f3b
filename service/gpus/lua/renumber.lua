-- renumber: moves the state of each card to the card's current index.
-- The state of a card that the driver no longer lists moves to an index that no other card has, and waits there.
-- If a card is back that forget has removed, its stored settings are restored.
-- A new MIG instance is drained, unmanaged and reserved like its card. New cards are in the list from now on, so that
-- state that is restored before the next scan is stored sees them.
-- Keys: sequence events scan gpus reservations queue affinity violations open pending silences removed gpu...
-- Args: host change
-- Returns: now_ms; 0 if the cards in Redis are not those that the caller expects: then nothing was changed
-- Events: gpu.renumbered gpu.drained gpu.unmanaged reservation.widened violation.updated
local violations, open_key, pending_key = KEYS[8], KEYS[9], KEYS[10]
local silences_key, removed_key, FIRST = KEYS[11], KEYS[12], 13
local change = cjson.decode(ARGV[2])

local key_of, facts_at, place, missing, moved = {}, {}, {}, {}, {}
for position = FIRST, #KEYS do key_of[tonumber(string.match(KEYS[position], ':gpu:(%d+)$'))] = KEYS[position] end
if redis.call('ZCARD', KEYS[4]) ~= #change.cards then return 0 end
for _, card in ipairs(change.cards) do
  local facts = pairs_of(key_of[card.was])
  if (facts.uuid or '') ~= card.uuid or not redis.call('ZSCORE', KEYS[4], card.was) then return 0 end
  facts_at[card.was], place[card.was], missing[card.index] = facts, card.index, card.missing
  if card.was ~= card.index then moved[#moved + 1] = {uuid = card.uuid, was = card.was, index = card.index} end
end

-- Returns a sorted list of the current indices, or nil if none has changed.
local function renamed(indices)
  local list, differs = {}, false
  for i, index in ipairs(indices) do
    list[i] = place[index] or index
    differs = differs or list[i] ~= index
  end
  table.sort(list)
  return differs and list or nil
end

-- Renames the GPUs in the JSON values of a hash. Values that cannot be read are left as they are.
local function rename_values(key, read)
  for name, text in pairs(pairs_of(key)) do
    local value = read(text)
    local gpus = value and type(value.gpus) == 'table' and renamed(value.gpus)
    local gpu = value and place[value.gpu]
    if gpus or (gpu and gpu ~= value.gpu) then
      value.gpus, value.gpu = gpus or value.gpus, gpu or value.gpu
      if key == KEYS[5] then value.rev = (value.rev or 0) + 1 end
      redis.call('HSET', key, name, cjson.encode(value))
    end
  end
end

-- Renames the fields of a hash; `parts` captures what is before the index, the index, and what is behind it.
local function rename_fields(key, parts)
  local fresh, stale = {}, {}
  for field, value in pairs(pairs_of(key)) do
    local before, index, behind = string.match(field, parts)
    local now_at = place[tonumber(index)]
    if now_at and now_at ~= tonumber(index) then
      stale[#stale + 1] = field
      fresh[before .. now_at .. behind] = value
    end
  end
  for _, field in ipairs(stale) do redis.call('HDEL', key, field) end
  for field, value in pairs(fresh) do redis.call('HSET', key, field, value) end
  return fresh
end

-- Publishes the violation with the current index of a missing card, because no scan will update it.
local function publish_violation(verb, field, record)
  local index, key = string.match(field, '^(%d+)/(.*)$')
  publish('violation.' .. verb, 'violation/' .. record.id, violation_data(tonumber(index), key, record), violations)
end

-- Stores a card at its index. The usage comes from the last scan that saw this card.
local function store_card(card, facts)
  local key, flat = key_of[card.index], {}
  if facts.usage then facts.usage = string.gsub(facts.usage, '^{"index":%d+', '{"index":' .. card.index) end
  for name, value in pairs(facts) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  if #flat > 0 then redis.call('HSET', key, unpack(flat)) end
  redis.call('ZADD', KEYS[4], card.index, card.index)
end

-- A missing card has the state error from now on, so it cannot be reserved before the next scan. With `anew`, no
-- scan has succeeded before this one, so the card may have been present: the time since it is missing starts again.
local function update_missing(card, facts)
  if card.missing then
    if not facts.missing_ms then
      if facts.state == 'ok' then facts.ok_ms = redis.call('HGET', KEYS[3], 'at_ms') or nil end
      facts.was, facts.state = tostring(card.was), 'error'
      facts.outline = nil  -- The next scan writes the state again in any case.
    end
    if change.anew or not facts.missing_ms then facts.missing_ms = whole(now_ms) end
  else
    facts.missing_ms, facts.was = nil, nil
  end
end

-- Restores what was stored when the card was removed: whether it is drained or unmanaged, and its last use.
local function restore_card(card)
  local text = redis.call('HGET', removed_key, card.uuid)
  if not text then return end
  local kept, key = cjson.decode(text), key_of[card.index]
  for name, value in pairs(kept.facts) do redis.call('HSETNX', key, name, value) end
  for uid, had in pairs(kept.affinity) do redis.call('HSETNX', KEYS[7], uid .. '/' .. card.index, had) end
  redis.call('HDEL', removed_key, card.uuid)
  local subject, handling = 'gpu/' .. card.index, {index = card.index, uuid = card.uuid, reason = kept.facts.drained}
  if kept.facts.drained then publish('gpu.drained', subject, cjson.encode(handling)) end
  handling.reason = nil
  if kept.facts.unmanaged then publish('gpu.unmanaged', subject, cjson.encode(handling)) end
end

-- Gives a new instance to who holds its card, and drains it, or leaves it out of allocation, like its card.
local function join_card(card)
  local whole = card.index >= FIRST_INSTANCE and key_of[card_of(card.index)]
  local facts, key = whole and pairs_of(whole) or {}, key_of[card.index]
  local holder = facts.holder and record_of(redis.call('HGET', KEYS[5], facts.holder) or '')
  local handling = {index = card.index, uuid = card.uuid, reason = facts.drained}
  for _, name in ipairs({'drained', 'unmanaged'}) do
    if facts[name] and redis.call('HSETNX', key, name, facts[name]) == 1 then publish('gpu.' .. name, 'gpu/' .. card.index, cjson.encode(handling)) end
    handling.reason = nil
  end
  if not holder then return end
  for _, name in ipairs({'holder', 'holder_uid', 'holder_user', 'holder_since', 'holder_login', 'holder_up'}) do
    if facts[name] then redis.call('HSET', key, name, facts[name]) end
  end
  table.insert(holder.gpus, card.index)
  table.sort(holder.gpus)
  save(holder)
  publish('reservation.widened', 'reservation/' .. holder.id, facts_of(holder, {uuids = {card.uuid}, joined = {card.index}}))
end

redis.call('HDEL', KEYS[3], 'settled')
for _, card in ipairs(change.cards) do
  redis.call('DEL', key_of[card.was])
  redis.call('ZREM', KEYS[4], card.was)
end
for _, card in ipairs(change.cards) do
  local facts = facts_at[card.was]
  update_missing(card, facts)
  store_card(card, facts)
end
if #moved > 0 then
  publish('gpu.renumbered', 'gpu', cjson.encode({gpus = moved}))
  rename_values(KEYS[5], record_of)
  rename_values(KEYS[6], request_of)
  rename_values(silences_key, silence_of)
  rename_fields(KEYS[7], '^(.*/)(%d+)(.-)$')
  rename_fields(pending_key, '^(.-)(%d+)(/.*)$')
  for field, text in pairs(rename_fields(open_key, '^(.-)(%d+)(/.*)$')) do
    local record = violation_of(text)
    if record then
      record.identity = ''  -- The next scan publishes an update with the current users.
      redis.call('HSET', open_key, field, cjson.encode(record))
      if missing[tonumber(string.match(field, '^%d+'))] then publish_violation('updated', field, record) end
    end
  end
end
for _, card in ipairs(change.new) do
  redis.call('ZADD', KEYS[4], card.index, card.index)
  redis.call('HSET', key_of[card.index], 'uuid', card.uuid)
  restore_card(card)
  join_card(card)
end
return now_ms
