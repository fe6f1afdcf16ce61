-- Load: ARGV is nonce, now, and for each item its kind, the number of its
-- fields, and these. Each takes the place of what has its id or key, so doing
-- it twice is as good as once.
local now = ARGV[2]

local function atLeast(kind, n)
  local last = tonumber(call('HGET', key('token'), kind) or '0')
  if tonumber(n) > last then call('HSET', key('token'), kind, n) end
end

local put = {}

function put.tokens(at)
  atLeast('job', ARGV[at])
  atLeast('lock', ARGV[at + 1])
end

function put.job(at)
  local j = sent(at, JOB)
  for _, id in ipairs({ j.id, j.key ~= '' and call('HGET', key('keyed'), j.key) or nil }) do
    local old = load(id)
    if old then
      displace(old)
      remove(old)
    end
  end
  if j.state ~= DEAD then
    j.worker, j.lease_end = '', ''
    setWaiting(j, now)
  end
  create(j, now)
end

function put.lease(at)
  local name, token, since, holder, who, why, expireAt = unpack(ARGV, at)
  call('HSET', key('lock:' .. name), 'token', token, 'since', since, 'holder', holder, 'who', who, 'why', why, 'expire_at', expireAt)
  call('ZADD', key('locks'), 0, name)
end

function put.run(at)
  local id, version, token, name, createdAt, data, result = unpack(ARGV, at)
  deleteRun(id)
  local other = call('HGET', key('runkey'), name)
  if other then deleteRun(other) end
  putRun(id, version, token, name, createdAt, data, result)
end

function put.chunk(at)
  local name, index, data = unpack(ARGV, at)
  local list = key('artifact:' .. name)
  if index == '0' then call('UNLINK', list) end
  if call('LLEN', list) > tonumber(index) then
    call('LSET', list, index, data)
  else
    call('RPUSH', list, data)
  end
  call('ZADD', key('artifacts'), 0, name)
end

function put.record(at)
  call('HSET', key('record'), ARGV[at], ARGV[at + 1])
  call('ZADD', key('records'), 0, ARGV[at])
end

function put.entry(at)
  append(ARGV[at], ARGV[at + 1], ARGV[at + 2])
end

local at = 3
while at <= #ARGV do
  put[ARGV[at]](at + 2)
  at = at + 2 + tonumber(ARGV[at + 1])
end
wake()
return true
