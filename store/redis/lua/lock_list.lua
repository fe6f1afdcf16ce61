-- List: ARGV is start and end of a range of keys, how many to look at, now.
-- Replies with where to go on, and for each lease in force key, token, since,
-- holder, who, why and expire_at.
local look, now = tonumber(ARGV[3]), ARGV[4]
local names = call('ZRANGEBYLEX', key('locks'), ARGV[1], ARGV[2], 'LIMIT', 0, look)
local out = {}
for _, name in ipairs(names) do
  local l = call('HMGET', key('lock:' .. name), 'token', 'since', 'holder', 'who', 'why', 'expire_at')
  if l[6] == NONE or l[6] > now then out[#out + 1] = { name, unpack(l) } end
end
return { #names == look and names[look] or '', out }
