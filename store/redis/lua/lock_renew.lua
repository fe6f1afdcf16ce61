-- Renew: ARGV is nonce, key, token, expire_at. Replies with since, holder, who
-- and why; or nothing where the lease is lost. Doing it twice is as good as once.
local lease = key('lock:' .. ARGV[2])
if call('HGET', lease, 'token') ~= ARGV[3] then return false end
call('HSET', lease, 'expire_at', ARGV[4])
return call('HMGET', lease, 'since', 'holder', 'who', 'why')
