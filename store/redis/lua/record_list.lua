-- List: ARGV is start and end of a range of keys, and how many to read. Replies
-- with where to go on, and key and record in turns.
local look = tonumber(ARGV[3])
local names = call('ZRANGEBYLEX', key('records'), ARGV[1], ARGV[2], 'LIMIT', 0, look)
local out = {}
for _, name in ipairs(names) do
  out[#out + 1] = name
  out[#out + 1] = call('HGET', key('record'), name)
end
return { #names == look and names[look] or '', out }
