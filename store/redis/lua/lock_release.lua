-- Release: ARGV is nonce, now, key, token. Replies '1' where it was in force.
-- An ended lease stays until then, so that its holder may still renew it.
local nonce, now, name = ARGV[1], ARGV[2], ARGV[3]
local known = once(nonce)
if known then return known[1] end
local lease = key('lock:' .. name)
local old = call('HMGET', lease, 'token', 'expire_at')
if old[1] ~= ARGV[4] then return '' end
call('DEL', lease)
call('ZREM', key('locks'), name)
return answer(nonce, { (old[2] == NONE or old[2] > now) and '1' or '' })[1]
