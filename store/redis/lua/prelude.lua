-- What all scripts share.
--
-- KEYS[1] is the installation's prefix, "{holdfast}:". It names no key by
-- itself: the word in braces is a hash tag, which puts all keys that begin with
-- it into one slot of a cluster. Redis and Valkey let a script use keys that
-- were not declared as long as they are in that slot.
--
--
--   meta           hash: holdfast -> version of the schema
--   token          hash: the last fencing token of a job and of a lock, and seq
--   answer:NONCE   what a call was answered, for a minute
--   wake           no key, but the channel that idle workers listen to
--
-- The other scripts say what else there is.
--
-- A script is executed again where its answer was lost on the way, so each one
-- that writes remembers what it answered, see once. It is not rolled back
-- either: what can be refused is refused before the first write.
local call = redis.call
local sub, format = string.sub, string.format

local function key(name) return KEYS[1] .. name end

-- Times and durations are decimal nanoseconds in 19 digits, so that they sort
-- as strings: a Lua number holds 53 bits. Strings are compared only where both
-- are digits, because Redis compares others by the locale it runs in.
local NONE, LATEST = '0000000000000000000', '9223372036854775807'

local function plus(time, duration)
  local seconds = tonumber(sub(time, 1, 10)) + tonumber(sub(duration, 1, 10))
  local nanos = tonumber(sub(time, 11)) + tonumber(sub(duration, 11))
  if nanos >= 1e9 then
    seconds, nanos = seconds + 1, nanos - 1e9
  end
  if seconds >= 9223372036 then return LATEST end
  return format('%010d%09d', seconds, nanos)
end

local function least(a, b) return b < a and b or a end

-- through is the end of a range over members that begin with a time, up to and
-- with that time.
local function through(time) return '(' .. plus(time, '0000000000000000001') end

-- once returns what the call named nonce answered when it was executed before,
-- or nil. A client retries for some seconds.
local function once(nonce)
  local answer = call('GET', key('answer:' .. nonce))
  return answer and cjson.decode(answer) or nil
end

-- answer keeps a reply of strings for once, and returns it.
local function answer(nonce, reply)
  call('SET', key('answer:' .. nonce), cjson.encode(reply), 'EX', 60)
  return reply
end

-- token returns the next fencing token of a kind. It is not just the last one
-- and one more: a server that takes over may have lost the last ones, and what
-- they were given to may still be at work. By the clock a token is greater than
-- all that were given out before, as long as there were fewer than a million a
-- second. Microseconds fit into a Lua number until the year 2255.
local function token(kind, now)
  local last = tonumber(call('HGET', key('token'), kind) or '0')
  local next = format('%.0f', math.max(last + 1, tonumber(sub(now, 1, 16))))
  call('HSET', key('token'), kind, next)
  return next
end
