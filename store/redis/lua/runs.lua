-- What the scripts of runs share.
--
--   run:ID           hash: version, token, key, created_at, result, and data,
--                    the other fields as JSON (runs.go). What a later version
--                    adds gets a field of its own, which an older one's update
--                    leaves alone: both may be at work at once.
--   runs             sorted set: the ids of all runs
--   open             the same of those that have not ended
--   repository:NAME, workspace:…, pull:…  the same of one
--   runkey           hash KEY -> id

-- row returns a run as it is sent to Go, which puts the list RUN in front of
-- this file (runs.go).
local function row(id) return { id, unpack(call('HMGET', key('run:' .. id), unpack(RUN))) } end

local function workspaceIndex(repository, workspace)
  return 'workspace:' .. #repository .. ':' .. repository .. ':' .. workspace
end

local function pullIndex(repository, number)
  return 'pull:' .. format('%.0f', number) .. ':' .. repository
end

-- indexes returns the names of the sets that a run is in, by its decoded data.
local function indexes(data)
  local names = { 'runs', 'repository:' .. data.repository, workspaceIndex(data.repository, data.workspace) }
  if data.pull_request then names[#names + 1] = pullIndex(data.repository, data.pull_request) end
  if data.open then names[#names + 1] = 'open' end
  return names
end

-- reindex puts a run, whose data may be nil where it is not there, into the sets
-- of its new data.
local function reindex(id, old, new)
  local was = old and indexes(cjson.decode(old)) or {}
  local is = new and indexes(cjson.decode(new)) or {}
  if table.concat(was, '\n') == table.concat(is, '\n') then return end
  for _, name in ipairs(was) do
    call('ZREM', key(name), id)
  end
  for _, name in ipairs(is) do
    call('ZADD', key(name), 0, id)
  end
end

local function deleteRun(id)
  local old = call('HMGET', key('run:' .. id), 'data', 'key')
  if not old[1] then return end
  reindex(id, old[1], nil)
  call('HDEL', key('runkey'), old[2])
  call('UNLINK', key('run:' .. id))
end

-- putRun writes all of a run that is in no index.
local function putRun(id, version, token, name, createdAt, data, result)
  call('HSET', key('run:' .. id), 'version', version, 'token', token, 'key', name, 'created_at', createdAt, 'data', data)
  if result ~= '' then call('HSET', key('run:' .. id), 'result', result) end
  call('HSET', key('runkey'), name, id)
  reindex(id, nil, data)
end
