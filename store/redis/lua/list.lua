-- List: ARGV is the index, where to go on in it, how many of it to look at, how
-- many jobs are wanted, and state, kind, group and key or ''. Replies with where
-- to go on ('' at the end) and rows.
local index, from, look, wanted = key(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
local state, kind, group, name = ARGV[5], ARGV[6], ARGV[7], ARGV[8]

local function matches(j)
  local public = (j.state == LATER or j.state == DUE) and 'waiting' or j.state
  return (state == '' or state == public) and (kind == '' or kind == j.kind)
    and (group == '' or group == j.group) and (name == '' or name == j.key)
end

if name ~= '' then
  local id = call('HGET', key('keyed'), name)
  return { '', id and matches(load(id)) and { row(id) } or {} }
end
local members = call('ZRANGEBYLEX', index, from == '' and '-' or '(' .. from, '+', 'LIMIT', 0, look)
local rows = {}
for _, member in ipairs(members) do
  local j = load(sub(member, 17))
  if matches(j) then
    rows[#rows + 1] = row(j.id)
    if #rows == wanted then return { '', rows } end
  end
end
return { #members == tonumber(look) and members[#members] or '', rows }
