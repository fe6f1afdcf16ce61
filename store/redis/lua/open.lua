-- Open: ARGV is the schema's version, and the names of keys of which some are
-- there in every store that was used. Marks a store that is new. Replies with
-- the version that is stored, or with 'foreign' or 'unmarked'.
local mark = key('meta')
local kind = call('TYPE', mark).ok
if kind == 'none' then
  for i = 2, #ARGV do
    if call('EXISTS', key(ARGV[i])) == 1 then return 'unmarked' end
  end
elseif kind ~= 'hash' or call('HEXISTS', mark, 'holdfast') == 0 then
  return 'foreign'
end
-- Also where it is there: a replica or a user that may not write refuses it now.
call('HSETNX', mark, 'holdfast', ARGV[1])
call('PUBLISH', key('wake'), '')
return call('HGET', mark, 'holdfast')
