-- Put: ARGV is nonce, key, data. Doing it twice is not as good as once: between
-- the two somebody may append.
local nonce, name = ARGV[1], ARGV[2]
if once(nonce) then return true end
call('UNLINK', key('artifact:' .. name))
call('RPUSH', key('artifact:' .. name), ARGV[3])
call('ZADD', key('artifacts'), 0, name)
answer(nonce, { '1' })
return true
