-- Append: ARGV is nonce, key, chunk.
local nonce, name = ARGV[1], ARGV[2]
if once(nonce) then return true end
call('RPUSH', key('artifact:' .. name), ARGV[3])
call('ZADD', key('artifacts'), 0, name)
answer(nonce, { '1' })
return true
