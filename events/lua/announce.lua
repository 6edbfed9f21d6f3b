-- announce: appends one notice to the stream of notices.
-- Keys: sequence events notices
-- Args: host notice
-- Returns: the notice's id
-- Events: notice.created
local id = next_id(KEYS[1])
local data = splice({notice = 'n' .. id, episode = 'n' .. id, host = ARGV[1], created = now()}, ARGV[2])
append_event({KEYS[2], KEYS[3]}, ARGV[1], id, 'canhazgpu.notice.created', 'notice/n' .. id, data)
return 'n' .. id
