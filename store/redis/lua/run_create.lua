-- Create: ARGV is nonce, id, version, token, key, created_at, data, result.
-- Replies '1' where it was created, with the row of the run that has the key;
-- or nothing where the id is taken.
local nonce, id, name = ARGV[1], ARGV[2], ARGV[5]
local known = once(nonce)
if known then return { known[1], row(known[2]) } end
local old = call('HGET', key('runkey'), name)
if old then return { '', row(old) } end
if call('EXISTS', key('run:' .. id)) == 1 then return false end
putRun(unpack(ARGV, 2))
answer(nonce, { '1', id })
return { '1', row(id) }
