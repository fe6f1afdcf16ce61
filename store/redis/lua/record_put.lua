-- Put: ARGV is nonce, key, the version that must be stored (0: none), value.
-- Replies '1', or '' where another is stored. A record is its version, a colon
-- and its value.
local nonce, name, version = ARGV[1], ARGV[2], ARGV[3]
local known = once(nonce)
if known then return known[1] end
local old = call('HGET', key('record'), name)
local stored = old and string.match(old, '^(%d+):') or '0'
if stored ~= version then return '' end
call('HSET', key('record'), name, format('%.0f', tonumber(version) + 1) .. ':' .. ARGV[4])
call('ZADD', key('records'), 0, name)
return answer(nonce, { '1' })[1]
