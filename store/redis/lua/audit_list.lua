-- List: ARGV is the index, below which id to begin ('+': at the last), how many.
-- Replies with the entries, newest first.
local out = {}
for i, id in ipairs(call('ZREVRANGEBYLEX', key(ARGV[1]), ARGV[2], '-', 'LIMIT', 0, ARGV[3])) do
  out[i] = call('HGET', key('entry'), id)
end
return out
