-- Shared by the scripts of the service: how many GPUs a user has, reserved and booked.

-- Returns how many GPUs a user holds now, and can still hold at `at_ms`.
local function held_by(host, uid, at_ms)
  local held = 0
  for _, gpu in ipairs(host.gpus) do
    if gpu.holder and tonumber(gpu.holder_uid) == uid and counts_for_itself(host, gpu) then
      local record = at_ms > now_ms and host.records[gpu.holder]
      if not record or end_of(record) > at_ms then held = held + 1 end
    end
  end
  return held
end

-- Returns how many GPUs a user has at most at the begin of one of their windows that begins before `end_ms`.
local function booked_peak(host, uid, end_ms)
  local own, most = {}, 0
  for _, window in ipairs(promised(host)) do
    if window.uid == uid and not window.drain and window.begin_ms < end_ms and window.end_ms > now_ms then own[#own + 1] = window end
  end
  for _, window in ipairs(own) do
    local at_ms, count = math.max(window.begin_ms, now_ms), 0
    for _, other in ipairs(own) do
      if other.begin_ms <= at_ms and other.end_ms > at_ms then count = count + other.count end
    end
    most = math.max(most, count + held_by(host, uid, at_ms))
  end
  return most
end

local function exceeds_limit(host, request)  -- If so, it also returns how many GPUs the user holds, or will hold.
  if not request.limit then return false end
  local held = math.max(held_by(host, request.uid, now_ms), booked_peak(host, request.uid, end_if_granted(request)))
  return held + needed(request) > request.limit, held
end
