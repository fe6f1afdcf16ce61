-- Claim: ARGV is nonce, now, worker, lease_end, max, cap of a bucket, number of
-- labels, labels, and the buckets with a cap of their own, each with it.
-- Replies with 1 where there are more jobs to be promoted, and with the rows.
local nonce, now, worker, leaseEnd = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local max, cap = tonumber(ARGV[5]), tonumber(ARGV[6])
local labels, caps = {}, {}
local at = 8
for _ = 1, tonumber(ARGV[7]) do
  labels[ARGV[at]] = true
  at = at + 1
end
for i = at, #ARGV, 2 do
  caps[ARGV[i]] = tonumber(ARGV[i + 1])
end

-- PROMOTED bounds how many jobs whose time has come one call marks, so that the
-- first claim after a long stop does not hold up everybody else.
local PROMOTED = 1000

-- promote marks jobs that became due or overdue, and reports whether more are
-- left. They become so by the latest now that any process passed.
local function promote()
  local more = false
  for _, set in ipairs({ 'later', 'soonlate' }) do
    local members = call('ZRANGEBYLEX', key(set), '-', through(now), 'LIMIT', 0, PROMOTED)
    for _, member in ipairs(members) do
      local j = load(sub(member, TIMED + 1))
      displace(j)
      j.state = DUE
      place(j, now)
    end
    more = more or #members == PROMOTED
  end
  return more
end

local function serves(pool)
  if pool == '' then return not labels[''] end -- the label of dedicated workers
  for label in string.gmatch(pool, '[^,]+') do
    if not labels[label] then return false end
  end
  return true
end

local function free(limit)
  local most = caps[limit] or cap
  if limit == '' or most <= 0 then return true end
  return tonumber(call('HGET', key('used'), limit) or '0') < most
end

-- expired returns the running jobs whose lease has ended, in order. They have
-- their place in group and bucket still.
local function expired()
  local out = {}
  for _, member in ipairs(call('ZRANGEBYLEX', key('leases'), '-', through(now))) do
    local j = load(sub(member, TIMED + 1))
    if serves(j.pool) then out[#out + 1] = { id = j.id, order = rank(j, now) .. j.seq } end
  end
  table.sort(out, function(a, b) return a.order < b.order end)
  return out
end

-- tops are the first claimable jobs of pools, as far as they were looked up, and
-- passed is how far each pool was passed over: what lies before has a full
-- bucket.
local tops, passed = {}, {}

-- top returns the first claimable job of a pool. One that is due by the clock
-- of another process only is passed over.
local function top(pool)
  while tops[pool] == nil do
    local from = passed[pool] and '(' .. passed[pool] or '-'
    local member = call('ZRANGEBYLEX', key('top:' .. pool), from, '+', 'LIMIT', 0, 1)[1]
    if not member then
      tops[pool] = false
      break
    end
    local id = sub(member, RANKED + 1)
    local j = call('HMGET', key('job:' .. id), 'run_at', 'limit')
    if j[1] <= now and free(j[2] or '') then
      tops[pool] = { id = id, pool = pool, limit = j[2] or '', order = sub(member, 1, RANKED) }
    else
      passed[pool] = member
    end
  end
  return tops[pool]
end

local function take(id)
  local j = load(id)
  displace(j)
  j.state, j.worker, j.lease_end = RUNNING, worker, leaseEnd
  j.token, j.attempt = token('job', now), format('%.0f', tonumber('0' .. j.attempt) + 1)
  j.rerun = '' -- a rerun that was asked for of an attempt that is gone is this one
  place(j, now)
end

local function claim()
  local ids, again, pools = {}, expired(), {}
  for _, pool in ipairs(call('SMEMBERS', key('pools'))) do
    if serves(pool) then pools[#pools + 1] = pool end
  end
  while #ids < max do
    local next = again[1]
    for _, pool in ipairs(pools) do
      local candidate = top(pool)
      if candidate and (not next or candidate.order < next.order) then next = candidate end
    end
    if not next then break end
    if next == again[1] then
      table.remove(again, 1)
      take(next.id)
      ids[#ids + 1] = next.id
    else
      tops[next.pool] = nil
      if free(next.limit) then -- still: another of its bucket may have been taken
        take(next.id)
        ids[#ids + 1] = next.id
      end
    end
  end
  return ids
end

local known = once(nonce)
local more = 0
if not known then
  more = promote() and 1 or 0
  known = claim()
  -- To find nothing twice is as good as once.
  if #known > 0 then answer(nonce, known) end
end
local rows = {}
for i, id in ipairs(known) do
  rows[i] = row(id)
end
return { more, rows }
