-- Finish: ARGV is nonce, now, id, token, how ('done', 'dead' or 'wait'), run_at,
-- uncounted, error. Replies 'ok', or 'lost'.
local nonce, now, how, runAt, uncounted, lastError = ARGV[1], ARGV[2], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local known = once(nonce)
if known then return known[1] end
local j = load(ARGV[3])
if not j or j.state ~= RUNNING or j.token ~= ARGV[4] then return 'lost' end

displace(j)
if how ~= 'wait' and j.rerun ~= '' then
  -- It waits once more, as if it had arrived now.
  call('ZREM', key('jobs'), j.seq .. j.id)
  j.seq = arrival()
  call('ZADD', key('jobs'), 0, j.seq .. j.id)
  j.rerun, j.canceled, j.attempt, j.last_error, j.enqueued_at = '', '', '', lastError, now
  wait(j, now, now)
  place(j, now)
elseif how == 'done' then
  remove(j)
else
  j.last_error = lastError
  if uncounted ~= '' then j.attempt = format('%.0f', math.max(0, tonumber('0' .. j.attempt) - 1)) end
  if how == 'dead' then
    j.state, j.worker, j.lease_end = DEAD, '', ''
  else
    wait(j, now, runAt)
  end
  place(j, now)
end
answer(nonce, { 'ok' })
wake()
return 'ok'
