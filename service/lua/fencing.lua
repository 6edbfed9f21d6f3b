-- Shared by the scripts of the service: checks that Redis has the expected data, and that it belongs to this service.

-- Returns the number of the last event, or -1 if it is not a number.
local function sequence_at(key)
  local text = redis.pcall('GET', key)  -- A table with the error if it is not a string.
  if not text then return 0 end
  if type(text) ~= 'string' then return -1 end
  return string.match(text, '^%d+$') and tonumber(text) or -1
end

-- Ends the script if Redis lacks acknowledged data (service/recovery/reconciliation.py), or if the data belongs to
-- another service (service/storage/state_owner.py). Rules that are not given are not checked.
local function check_fencing_token(rules)
  local named = redis.call('HMGET', KEYS[3], 'dataset', 'owner')
  if rules.owner and named[2] ~= rules.owner then error('BEHIND the data are not of this service') end
  if rules.dataset and (named[1] ~= rules.dataset or sequence_at(KEYS[1]) < (rules.sequence or 0)) then
    error('BEHIND the data is not what it was')
  end
  return rules
end

-- Returns the owner of the state and the times of its last writes, which change while the owner is running.
local function signs_of_life(scan)
  local signs = redis.call('HMGET', scan, 'owner', 'at_ms', 'alive_ms')
  return (signs[1] or '') .. '|' .. (signs[2] or '') .. '|' .. (signs[3] or '')
end
