-- Acquire: ARGV is nonce, now, key, holder, who, why, expire_at (0: no end).
-- Replies with whether it is taken ('1'), and the lease in force: token, since,
-- and where another has it, its holder, who, why and expire_at.
local nonce, now, name, holder = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = once(nonce)
if known then return known end

local lease = key('lock:' .. name)
local old = call('HMGET', lease, 'token', 'since', 'holder', 'who', 'why', 'expire_at')
local since = now
if old[1] and (old[6] == NONE or old[6] > now) then
  if old[3] ~= holder then return { '', unpack(old) } end
  since = old[2]
end
local next = token('lock', now)
call('HSET', lease, 'token', next, 'since', since, 'holder', holder, 'who', ARGV[5], 'why', ARGV[6], 'expire_at', ARGV[7])
call('ZADD', key('locks'), 0, name)
return answer(nonce, { '1', next, since })
