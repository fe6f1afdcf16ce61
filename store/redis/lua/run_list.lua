-- List: ARGV is start and end of a range of ids from the last to the first, how
-- many to look at, how many are wanted, repository, workspace, pull request,
-- kind, commit, whether only open runs match, and states. Empty ones match all.
-- Replies with where to go on, and rows.
local look, wanted = tonumber(ARGV[3]), tonumber(ARGV[4])
local repository, workspace, number = ARGV[5], ARGV[6], tonumber(ARGV[7])
local want = { repository = ARGV[5], workspace = ARGV[6], kind = ARGV[8], commit = ARGV[9] }
local states = {}
for i = 11, #ARGV do
  states[ARGV[i]] = true
end

local function matches(data)
  for name, value in pairs(want) do
    if value ~= '' and data[name] ~= value then return false end
  end
  return (number == 0 or data.pull_request == number) and (#ARGV < 11 or states[data.state] == true)
end

-- The smallest index that has all that match.
local name = 'runs'
if repository ~= '' and number ~= 0 then
  name = pullIndex(repository, number)
elseif ARGV[10] ~= '' then
  name = 'open'
elseif repository ~= '' and workspace ~= '' then
  name = workspaceIndex(repository, workspace)
elseif repository ~= '' then
  name = 'repository:' .. repository
end

local ids = call('ZREVRANGEBYLEX', key(name), ARGV[1], ARGV[2], 'LIMIT', 0, look)
local rows = {}
for _, id in ipairs(ids) do
  if matches(cjson.decode(call('HGET', key('run:' .. id), 'data'))) then
    rows[#rows + 1] = row(id)
    if #rows == wanted then return { '', rows } end
  end
end
return { #ids == look and ids[look] or '', rows }
