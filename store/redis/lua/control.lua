-- Control: ARGV is nonce, now, id, action ('cancel' or 'retry'). Replies with
-- the row of the job, as it was where it was deleted; or nothing where there is
-- no such job.
local nonce, now, id, action = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = once(nonce)
if known then return known end
local j = load(id)
if not j then return false end

local was = row(id)
if action == 'cancel' and j.state ~= RUNNING then
  displace(j)
  remove(j)
elseif action == 'cancel' then
  j.canceled = '1'
  save(j)
elseif j.state ~= RUNNING then
  displace(j)
  j.attempt, j.canceled = '', ''
  wait(j, now, now)
  place(j, now)
end
local reply = answer(nonce, row(id) or was)
wake()
return reply
