-- Enqueue: ARGV is nonce, now, and the SENT fields of each job.
-- Replies for each job with the row of the one that has its key already, or
-- with nothing where it was stored as it came; or with an id that is taken.
local nonce, now = ARGV[1], ARGV[2]
local known = once(nonce)
if known then
  for i, id in ipairs(known) do
    known[i] = id ~= '' and row(id)
  end
  return known
end

local jobs, taken = {}, {}
for at = 3, #ARGV, #SENT do
  local j = sent(at, SENT)
  if taken[j.id] or call('EXISTS', key('job:' .. j.id)) == 1 then return j.id end
  taken[j.id] = true
  jobs[#jobs + 1] = j
end

-- merge is what enqueuing j does to the job r that has its key already.
local function merge(r, j)
  local urgent = math.max(tonumber(r.priority), tonumber(j.priority))
  if r.state == RUNNING then
    if j.again == '' and r.canceled == '' then return end
    r.rerun, r.priority = '1', format('%.0f', urgent)
    r.patience, r.pool = least(r.patience, j.patience), j.pool
    return save(r)
  end
  displace(r)
  r.canceled, r.priority, r.pool = '', format('%.0f', urgent), j.pool
  if r.state == DEAD then
    r.attempt, r.patience = '', j.patience
    wait(r, now, j.run_at)
    r.overdue_at = j.overdue_at
  else
    r.patience = least(r.patience, j.patience)
    r.run_at, r.overdue_at = least(r.run_at, j.run_at), least(r.overdue_at, j.overdue_at)
    setWaiting(r, now)
  end
  place(r, now)
end

local ids, rows = {}, {}
for i, j in ipairs(jobs) do
  local id = j.key ~= '' and call('HGET', key('keyed'), j.key)
  if id then
    merge(load(id), j)
    ids[i], rows[i] = id, row(id)
  else
    setWaiting(j, now)
    create(j, now)
    ids[i], rows[i] = '', false
  end
end
answer(nonce, ids)
wake()
return rows
