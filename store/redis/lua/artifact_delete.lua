-- Delete: ARGV is nonce, start and end of a range of keys, how many to delete.
-- Replies with the last one, or '' where there are no more. Their memory is
-- freed beside the commands that follow. Doing it twice is as good as once.
local look = tonumber(ARGV[4])
local names = call('ZRANGEBYLEX', key('artifacts'), ARGV[2], ARGV[3], 'LIMIT', 0, look)
for _, name in ipairs(names) do
  call('UNLINK', key('artifact:' .. name))
  call('ZREM', key('artifacts'), name)
end
return #names == look and names[look] or ''
