-- Update: ARGV is nonce, id, the version that must be stored, token, data,
-- result. Replies with key and created_at, which stay; with '' where another
-- version or a later token is stored; or with nothing where there is no run.
local nonce, id, version, token, data, result = unpack(ARGV)
local known = once(nonce)
if known then return known end
local run = key('run:' .. id)
local old = call('HMGET', run, 'version', 'token', 'key', 'created_at', 'data')
if not old[1] then return false end
if old[1] ~= version or tonumber(token) < tonumber(old[2]) then return '' end
reindex(id, old[5], data)
call('HSET', run, 'version', format('%.0f', tonumber(version) + 1), 'token', token, 'data', data)
if result ~= '' then
  call('HSET', run, 'result', result)
else
  call('HDEL', run, 'result')
end
return answer(nonce, { old[3], old[4] })
