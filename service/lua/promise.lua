-- Shared by the scripts of the service: whether Redis holds what was promised.

-- Ends a script before it does anything on data that lacks what was promised (service/reconciliation.py).
local function check_promise(rules)
  if rules.dataset and (redis.call('HGET', KEYS[3], 'dataset') ~= rules.dataset
      or tonumber(redis.call('GET', KEYS[1]) or 0) < rules.sequence) then
    error('BEHIND the data is not what it was')
  end
  return rules
end

