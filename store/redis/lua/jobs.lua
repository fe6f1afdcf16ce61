-- What the scripts of the queue share.
--
-- A claim must cost the same whether ten or a million jobs wait, so what is
-- claimable is marked when a job changes, not searched for when one is claimed.
-- All sorted sets have the score 0: they are ordered by their members, which
-- begin with digits and end with the job's id.
--
--   job:ID              hash: the job, fields as below; empty ones are left out
--   jobs                sorted by arrival: all jobs (seq, id)
--   jobs:running, jobs:dead  the same of those in that state
--   later               sorted by run_at: waiting jobs whose time has not come
--   soonlate            sorted by overdue_at: due jobs that are not overdue
--   due:GROUP           sorted by urgency, seq: due jobs of a group
--   busy, first         hashes GROUP -> id: the running job, and the one marked
--   heads:POOL:LIMIT    sorted by rank, seq: what is claimable in a bucket, as
--                       far as its groups go: the first of each group
--   top:POOL            sorted by rank, seq: the first of each bucket, and all
--                       heads without a bucket
--   pools               set: the pools that have a top
--   leases              sorted by lease_end: running jobs
--   used                hash LIMIT -> number of running jobs
--   keyed               hash KEY -> id
--   count               hash STATE:KIND -> number of jobs
--
-- A claim reads the tops and skips buckets that are full, of which there are no
-- more than there are running jobs.

-- The fields that scripts read and change. SENT and JOB, which Go puts in front
-- of this file, are those that it sends and those that it gets (queue.go).
local FIELDS = {
  'id', 'kind', 'group', 'key', 'limit', 'pool', 'priority', 'run_at', 'enqueued_at', 'overdue_at', 'patience',
  'seq', 'state', 'attempt', 'token', 'worker', 'lease_end', 'canceled', 'rerun', 'rank', 'last_error',
}

-- The states. A waiting job is later until a claim comes at or after its
-- run_at, then due.
local LATER, DUE, RUNNING, DEAD = 'later', 'due', 'running', 'dead'

-- load returns a job as a table of strings, or nil.
local function load(id)
  local stored = call('HMGET', key('job:' .. id), unpack(FIELDS))
  if not stored[1] then return nil end
  local j = { stored = stored }
  for i, name in ipairs(FIELDS) do
    j[name] = stored[i] or ''
  end
  return j
end

-- row returns a job as it is sent to Go, or false.
local function row(id)
  local values = call('HMGET', key('job:' .. id), unpack(JOB))
  return values[1] and values
end

-- save writes the fields that changed.
local function save(j)
  local set, gone = {}, {}
  for i, name in ipairs(FIELDS) do
    if j[name] ~= (j.stored[i] or '') then
      if j[name] == '' then
        gone[#gone + 1] = name
      else
        set[#set + 1] = name
        set[#set + 1] = j[name]
      end
      j.stored[i] = j[name]
    end
  end
  if #set > 0 then call('HSET', key('job:' .. j.id), unpack(set)) end
  if #gone > 0 then call('HDEL', key('job:' .. j.id), unpack(gone)) end
end

-- arrival returns the next place in the order of arrival. Unlike tokens it is
-- known to nobody but the store: where a failover loses the last ones, it loses
-- the jobs that had them as well.
local function arrival()
  return format('%016.0f', call('HINCRBY', key('token'), 'seq', 1))
end

-- urgency sorts priorities, the higher first.
local function urgency(j) return format('%019.0f', 2 ^ 52 - tonumber(j.priority)) end

-- rank orders jobs for claiming: those past their overdue_at by that time, then
-- the others by priority. Equal ranks go by arrival.
local function rank(j, now)
  if j.overdue_at <= now then return '0' .. j.overdue_at end
  return '1' .. urgency(j)
end

local function isLate(j) return sub(j.rank, 1, 1) == '0' end

-- Members of sorted sets, and what they begin with.
local function byRank(j) return j.rank .. j.seq .. j.id end
local RANKED = 20 + 16
local function byUrgency(j) return urgency(j) .. j.seq .. j.id end
local URGENT = 19 + 16
local TIMED = 19

local function first(set) return call('ZRANGE', set, 0, 0)[1] end

local function heads(j) return key('heads:' .. #j.pool .. ':' .. j.pool .. ':' .. j.limit) end

-- marking returns what mark and unmark need of a due job.
local function marking(id)
  local stored = call('HMGET', key('job:' .. id), 'rank', 'seq', 'pool', 'limit')
  return { id = id, rank = stored[1], seq = stored[2], pool = stored[3] or '', limit = stored[4] or '' }
end

-- mark makes j claimable as far as its group goes.
local function mark(j)
  local top, member = key('top:' .. j.pool), byRank(j)
  if j.limit ~= '' then
    local old = first(heads(j))
    call('ZADD', heads(j), 0, member)
    if first(heads(j)) ~= member then return end
    if old then call('ZREM', top, old) end
  end
  call('ZADD', top, 0, member)
  call('SADD', key('pools'), j.pool)
end

-- unmark is the inverse of mark, for j as it was then.
local function unmark(j)
  local top, member = key('top:' .. j.pool), byRank(j)
  local was = call('ZREM', top, member) == 1
  if j.limit ~= '' then
    call('ZREM', heads(j), member)
    local next = was and first(heads(j))
    if next then call('ZADD', top, 0, next) end
  end
  if was and call('EXISTS', top) == 0 then call('SREM', key('pools'), j.pool) end
end

-- settle marks the first due job of a group in which none runs: the first by
-- priority, also where another one is overdue. It reads of that job what mark
-- needs, and nothing where it is j, which the caller has placed.
local function settle(group, j)
  if group == '' then return end
  local want = false
  if call('HEXISTS', key('busy'), group) == 0 then
    local member = first(key('due:' .. group))
    want = member and sub(member, URGENT + 1) or false
  end
  local marked = call('HGET', key('first'), group)
  if marked == want then return end
  if marked then
    call('HDEL', key('first'), group)
    unmark(marking(marked))
  end
  if want then
    call('HSET', key('first'), group, want)
    mark(j and j.id == want and j or marking(want))
  end
end

-- add counts up or down, and keeps no zeros.
local function add(hash, field, n)
  if call('HINCRBY', key(hash), field, n) == 0 then call('HDEL', key(hash), field) end
end

local function tally(j, n)
  local waits = j.state == LATER or j.state == DUE
  add('count', (waits and 'waiting' or j.state) .. ':' .. j.kind, n)
end

-- displace takes j out of all that is kept of its state. Its group is settled
-- when it is placed again, or removed.
local function displace(j)
  if j.state == LATER then
    call('ZREM', key('later'), j.run_at .. j.id)
  elseif j.state == DUE then
    if not isLate(j) then call('ZREM', key('soonlate'), j.overdue_at .. j.id) end
    if j.group == '' then
      unmark(j)
    else
      call('ZREM', key('due:' .. j.group), byUrgency(j))
      if call('HGET', key('first'), j.group) == j.id then
        call('HDEL', key('first'), j.group)
        unmark(j)
      end
    end
  else
    call('ZREM', key('jobs:' .. j.state), j.seq .. j.id)
  end
  if j.state == RUNNING then
    call('ZREM', key('leases'), j.lease_end .. j.id)
    if j.group ~= '' then call('HDEL', key('busy'), j.group) end
    if j.limit ~= '' then add('used', j.limit, -1) end
  end
  tally(j, -1)
end

-- place writes j, which is in no index, and puts it into those of its state.
local function place(j, now)
  if j.state == DUE then j.rank = rank(j, now) end
  save(j)
  if j.state == LATER then
    call('ZADD', key('later'), 0, j.run_at .. j.id)
  elseif j.state == DUE then
    if not isLate(j) then call('ZADD', key('soonlate'), 0, j.overdue_at .. j.id) end
    if j.group == '' then
      mark(j)
    else
      call('ZADD', key('due:' .. j.group), 0, byUrgency(j))
    end
  else
    call('ZADD', key('jobs:' .. j.state), 0, j.seq .. j.id)
  end
  if j.state == RUNNING then
    call('ZADD', key('leases'), 0, j.lease_end .. j.id)
    if j.group ~= '' then call('HSET', key('busy'), j.group, j.id) end
    if j.limit ~= '' then add('used', j.limit, 1) end
  end
  tally(j, 1)
  settle(j.group, j)
end

-- sent returns the job whose fields are in ARGV from at on.
local function sent(at, names)
  local j = { stored = {} }
  for _, name in ipairs(FIELDS) do
    j[name] = ''
  end
  for i, name in ipairs(names) do
    j[name] = ARGV[at + i - 1]
  end
  return j
end

-- create places a job that arrives. Its payload is not among FIELDS, so that
-- moving a job from state to state does not read it.
local function create(j, now)
  j.seq = arrival()
  for _, name in ipairs({ 'again', 'payload' }) do
    if j[name] ~= '' then call('HSET', key('job:' .. j.id), name, j[name]) end
  end
  call('ZADD', key('jobs'), 0, j.seq .. j.id)
  if j.key ~= '' then call('HSET', key('keyed'), j.key, j.id) end
  place(j, now)
end

-- remove deletes a job that was displaced.
local function remove(j)
  call('ZREM', key('jobs'), j.seq .. j.id)
  if j.key ~= '' then call('HDEL', key('keyed'), j.key) end
  call('DEL', key('job:' .. j.id))
  settle(j.group)
end

local function setWaiting(j, now)
  j.state = j.run_at <= now and DUE or LATER
end

-- wait makes j wait from runAt on, or from now if that is later.
local function wait(j, now, runAt)
  if runAt < now then runAt = now end
  j.run_at, j.overdue_at = runAt, plus(runAt, j.patience)
  j.worker, j.lease_end = '', ''
  setWaiting(j, now)
end

-- wake tells idle workers of all processes, where there is something to claim.
-- It comes last in a script.
local function wake()
  if call('EXISTS', key('pools')) == 1 then call('PUBLISH', key('wake'), '') end
end
