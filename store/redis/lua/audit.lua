-- What the scripts of the audit trail share.
--
--   entry              hash ID -> entry as JSON
--   entries            sorted set: all ids
--   entries:REPOSITORY  the same of one

-- append ignores an id that is there already.
local function append(id, repository, entry)
  if call('HSETNX', key('entry'), id, entry) == 0 then return end
  call('ZADD', key('entries'), 0, id)
  if repository ~= '' then call('ZADD', key('entries:' .. repository), 0, id) end
end
