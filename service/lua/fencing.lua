-- Shared by the scripts of the service: whether Redis holds what was promised, and for this service.

-- The number of the last event, -1 if it is not a number.
local function sequence_at(key)
  local text = redis.pcall('GET', key)  -- A table with the error if it is no string.
  if not text then return 0 end
  if type(text) ~= 'string' then return -1 end
  return string.match(text, '^%d+$') and tonumber(text) or -1
end

-- Ends a script before it does anything on data that lacks what was promised (service/recovery/reconciliation.py), or
-- that are another's (service/storage/state_owner.py). What is not asked for is not checked.
local function check_promise(rules)
  local named = redis.call('HMGET', KEYS[3], 'dataset', 'owner')
  if rules.owner and named[2] ~= rules.owner then error('BEHIND the data are not of this service') end
  if rules.dataset and (named[1] ~= rules.dataset or sequence_at(KEYS[1]) < (rules.sequence or 0)) then
    error('BEHIND the data is not what it was')
  end
  return rules
end

-- Whose the state is, and when it was last written: it changes for as long as a service lives.
local function signs_of_life(scan)
  local signs = redis.call('HMGET', scan, 'owner', 'at_ms', 'alive_ms')
  return (signs[1] or '') .. '|' .. (signs[2] or '') .. '|' .. (signs[3] or '')
end
