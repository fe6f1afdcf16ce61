-- Heartbeat: ARGV is nonce, lease_end, and the id and token of each claim. Replies for
-- each whether it was cancelled ('1' or ''), or nothing where it is lost. Doing
-- it twice is as good as once.
local leaseEnd = ARGV[2]
local beats = {}
for at = 3, #ARGV, 2 do
  local j = load(ARGV[at])
  if j and j.state == RUNNING and j.token == ARGV[at + 1] then
    call('ZREM', key('leases'), j.lease_end .. j.id)
    j.lease_end = leaseEnd
    call('ZADD', key('leases'), 0, j.lease_end .. j.id)
    save(j)
    beats[#beats + 1] = j.canceled
  else
    beats[#beats + 1] = false
  end
end
return beats
