"""The scripts that change a job store in Redis. Each is one transaction, and takes its own time.

All keys begin with the hash tag of the namespace, so that they would lie in one slot of a cluster:

  meta        hash: schema, application       place        counter: order of becoming available
  job:ID      hash: the job                   history:ID   list: how its attempts ended
  log:ID      list: its last log lines        tally        hash: STATE:QUEUE → number of jobs
  state:N     ids, in their order             ready:Q/NAME ids by priority and place
  names:Q     names with ready jobs           since:Q      ready ids by when they became available
  scheduled   ids by run_at                   expiring     waiting ids by expires_at
  leases      ids by lease_until              kept         finished ids by when they are deleted
  owners      owners of running jobs          owner:OWNER  ids of the jobs that it runs
  unique      hash: unique key → id           paused       queues
  claim:ID    number of a claimer's last claim

A script with the line `#!lua` is refused as a whole where memory is full or the server is a
replica, not in its middle. Numbers are passed as text: Lua's replies cut them to integers, and its
own conversion to text has 14 digits.
"""

from clusterd.jobs.records import MOST_CRASHES, MOST_LOG_LINES
from clusterd.jobs.states import AGAIN, COUNTED, NEXT, State

_AFTER = ", ".join(
    f"{event} = '{int(after)}'" for (state, event), after in NEXT.items() if state is State.RUNNING
)
_COUNTED = ", ".join(f"{event} = true" for event in COUNTED)
_AGAIN = ", ".join(f"{event} = true" for event in AGAIN)

PRELUDE = (
    f"""#!lua
local AFTER = {{ {_AFTER} }}
local COUNTED = {{ {_COUNTED} }}
local AGAIN = {{ {_AGAIN} }}
local MOST_CRASHES, MOST_LOG_LINES = {MOST_CRASHES}, {MOST_LOG_LINES}
"""
    + """
local call = redis.call
local P = string.sub(KEYS[1], 1, -5)
local now = tonumber(ARGV[1])
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local has_work, has_finished = false, false

local function whole(number) return string.format('%.0f', number) end
local function key(id) return P .. 'job:' .. id end
local function fields(id, ...) return unpack(call('HMGET', key(id), ...)) end

local function moved(id, queue, before, after)
  if before then
    call('ZREM', P .. 'state:' .. before, id)
    call('HINCRBY', P .. 'tally', before .. ':' .. queue, -1)
  end
  if after then
    call('ZADD', P .. 'state:' .. after, 0, id)
    call('HINCRBY', P .. 'tally', after .. ':' .. queue, 1)
    call('HSET', key(id), 'state', after)
    if after == '0' or after == '2' then has_work = true end
    if after >= '4' then has_finished = true end
  end
end

local function record(id, list, at, event, owner, group, slot, generation, attempt, started, text)
  local number = call('HINCRBY', key(id), 'events', 1)
  local line = { number, whole(at), event, owner, group, slot, generation, whole(attempt), started,
    text }
  call('RPUSH', P .. list .. ':' .. id, table.concat(line, '\\31'))
end

-- Put a job among those that may be claimed, at its place.
local function line_up(id)
  local queue, name, priority, place, available =
    fields(id, 'queue', 'name', 'priority', 'place', 'available')
  local score = tonumber(place) - tonumber(priority) * 17592186044416
  call('ZADD', P .. 'ready:' .. queue .. '/' .. name, whole(score), id)
  call('SADD', P .. 'names:' .. queue, name)
  call('ZADD', P .. 'since:' .. queue, available, id)
end

local function leave_line(id, queue, name)
  local ready = P .. 'ready:' .. queue .. '/' .. name
  call('ZREM', ready, id)
  if call('EXISTS', ready) == 0 then call('SREM', P .. 'names:' .. queue, name) end
  call('ZREM', P .. 'since:' .. queue, id)
end

-- Make a job available as the last of its priority.
local function make_available(id, before)
  local queue = fields(id, 'queue')
  local place = call('INCR', P .. 'place')
  call('HSET', key(id), 'place', whole(place), 'available', whole(now))
  if before == '0' then call('ZREM', P .. 'scheduled', id) end
  line_up(id)
  moved(id, queue, before, '2')
end

local function watch_expiry(id)
  local expires_at = fields(id, 'expires_at')
  if expires_at ~= '0' then call('ZADD', P .. 'expiring', expires_at, id) end
end

-- What is to be done for a job that has finished.
local function finished(id, after)
  local unique, completed, failed = fields(id, 'unique_key', 'keep_completed', 'keep_failed')
  local kept = now + tonumber(after == '4' and completed or failed)
  call('HSET', key(id), 'finished', whole(now), 'cancel_requested', '0')
  call('ZADD', P .. 'kept', whole(kept), id)
  if unique ~= '' and call('HGET', P .. 'unique', unique) == id then
    call('HDEL', P .. 'unique', unique)
  end
end

-- Take a job out of the sets of its state, where it does not run.
local function withdraw(id, state)
  local queue, name = fields(id, 'queue', 'name')
  if state == '2' then leave_line(id, queue, name) end
  if state == '0' then call('ZREM', P .. 'scheduled', id) end
  call('ZREM', P .. 'expiring', id)
  return queue
end

local function finish_idle(id, state, after, event)
  local queue = withdraw(id, state)
  record(id, 'history', now, event, '', '', '-1', '0', 0, '0', '')
  finished(id, after)
  moved(id, queue, state, after)
end

local function delete(id, state)
  local queue = withdraw(id, state)
  local unique = fields(id, 'unique_key')
  if unique ~= '' and call('HGET', P .. 'unique', unique) == id then
    call('HDEL', P .. 'unique', unique)
  end
  call('ZREM', P .. 'kept', id)
  moved(id, queue, state, nil)
  call('DEL', key(id), P .. 'history:' .. id, P .. 'log:' .. id)
end

local function record_success(id)
  local at, owner, group, slot, generation, attempts, started =
    fields(id, 'finished', 'owner', 'group', 'slot', 'generation', 'attempts', 'started')
  record(id, 'history', at, 'succeeded', owner, group, slot, generation, attempts, started, '')
end

-- End the attempt of a running job.
local function end_attempt(id, event, text, run_at)
  local queue, cancelled, attempts, owner, group, slot, generation, started = fields(id, 'queue',
    'cancel_requested', 'attempts', 'owner', 'group', 'slot', 'generation', 'started')
  if event ~= 'succeeded' then
    record(id, 'history', now, event, owner, group, slot, generation, attempts + 1, started, text)
  end
  local after = AFTER[event]
  if cancelled == '1' and AGAIN[event] then after = AFTER['cancel'] end
  call('HSET', key(id), 'ended', event)
  if COUNTED[event] then call('HINCRBY', key(id), 'attempts', 1) end
  if event == 'lost' or event == 'poisoned' then call('HINCRBY', key(id), 'crashes', 1) end
  if text ~= '' then call('HSET', key(id), 'error', text) end
  call('ZREM', P .. 'leases', id)
  call('SREM', P .. 'owner:' .. owner, id)
  if call('EXISTS', P .. 'owner:' .. owner) == 0 then call('SREM', P .. 'owners', owner) end
  if after == '0' then
    if run_at == '0' then run_at = whole(now) end
    call('HSET', key(id), 'run_at', run_at)
    call('ZADD', P .. 'scheduled', run_at, id)
  elseif after == '2' then
    line_up(id)
  end
  if after < '4' then watch_expiry(id) else finished(id, after) end
  moved(id, queue, '3', after)
end

local function lose(ids, cause)
  local jobs, released = {}, {}
  for _, id in ipairs(ids) do
    local queue, place, name, owner, crashes =
      fields(id, 'queue', 'place', 'name', 'owner', 'crashes')
    jobs[#jobs + 1] = { id, name, owner, crashes + 1, queue, tonumber(place) }
  end
  table.sort(jobs, function(one, other)
    if one[5] ~= other[5] then return one[5] < other[5] end
    return one[6] < other[6]
  end)
  for _, job in ipairs(jobs) do
    local poisoned = job[4] > MOST_CRASHES
    end_attempt(job[1], poisoned and 'poisoned' or 'lost', cause, '0')
    released[#released + 1] = { job[1], job[2], job[3], whole(job[4]), poisoned and '1' or '0' }
  end
  return released
end

local function ring()
  if has_work then call('PUBLISH', P .. 'available', '') end
  if has_finished then call('PUBLISH', P .. 'finished', '') end
end
"""
)

_CLAIM = """
-- Return the first job of a name in a queue that has not expired, with its score.
local function first(queue, name, skipped)
  local ready = P .. 'ready:' .. queue .. '/' .. name
  while true do
    local found = call('ZRANGE', ready, skipped[name], skipped[name], 'WITHSCORES')
    if #found == 0 then return nil end
    local expires_at = call('ZSCORE', P .. 'expiring', found[1])
    if not expires_at or tonumber(expires_at) > now then
      return { found[1], tonumber(found[2]), name }
    end
    skipped[name] = skipped[name] + 1
  end
end

local function take(id, queue, name, owner, lease, claim)
  leave_line(id, queue, name)
  call('ZREM', P .. 'expiring', id)
  call('HINCRBY', key(id), 'token', 1)
  call('HSET', key(id), 'owner', owner[1], 'group', owner[2], 'slot', owner[3], 'generation',
    owner[4], 'started', whole(now), 'ended', '', 'progress', '0', 'progress_data', '', 'claim',
    claim)
  call('ZADD', P .. 'leases', whole(now + lease), id)
  call('SADD', P .. 'owner:' .. owner[1], id)
  call('SADD', P .. 'owners', owner[1])
  moved(id, queue, '2', '3')
end

local function claim_from(queue, known, room, owner, lease, claim, taken)
  local heads, skipped = {}, {}
  for _, name in ipairs(call('SMEMBERS', P .. 'names:' .. queue)) do
    if known[name] then
      skipped[name] = 0
      heads[#heads + 1] = first(queue, name, skipped)
    end
  end
  while room > 0 and #heads > 0 do
    local best = 1
    for index = 2, #heads do
      if heads[index][2] < heads[best][2] then best = index end
    end
    local id, _, name = unpack(heads[best])
    take(id, queue, name, owner, lease, claim)
    taken[#taken + 1] = id
    room = room - 1
    local following = first(queue, name, skipped)
    if following then heads[best] = following else table.remove(heads, best) end
  end
end

-- Take jobs. ARGV from `at`: claimer, number, confirmed, owner, group, slot, generation, lease,
-- limit, number of names, names, queues to the end.
local function claim(at)
  local claimer, number, confirmed = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local owner = { ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6] }
  local lease, limit, names = tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
  local last = P .. 'claim:' .. claimer
  -- A claim that its caller gave up, and that arrives after the next one, must take nothing.
  if number <= tonumber(call('GET', last) or 0) then return {} end
  call('SET', last, number, 'EX', 86400)
  local taken, known = {}, {}
  if number > confirmed + 1 then
    -- Jobs of claims whose reply was lost: hand them out again, with the token that they have.
    for _, id in ipairs(call('SMEMBERS', P .. 'owner:' .. owner[1])) do
      local of, before = string.match(fields(id, 'claim'), '^(.*)/(%d+)$')
      if of == claimer and tonumber(before) > confirmed then taken[#taken + 1] = id end
    end
  end
  for index = at + 10, at + 9 + names do known[ARGV[index]] = true end
  for index = at + 10 + names, #ARGV do
    local queue = ARGV[index]
    if #taken < limit and call('SISMEMBER', P .. 'paused', queue) == 0 then
      claim_from(queue, known, limit - #taken, owner, lease, claimer .. '/' .. number, taken)
    end
  end
  local jobs = {}
  for _, id in ipairs(taken) do
    call('HSET', key(id), 'claim', claimer .. '/' .. number)
    jobs[#jobs + 1] = call('HMGET', key(id), 'id', 'name', 'payload', 'queue', 'priority', 'token',
      'attempts', 'max_attempts', 'crashes', 'timeout', 'created', 'available', 'trace')
  end
  return jobs
end
"""

PREPARE = (
    PRELUDE
    + """
if call('HSETNX', P .. 'meta', 'schema', ARGV[2]) == 1 then
  call('HSET', P .. 'meta', 'application', ARGV[3])
end
return call('HMGET', P .. 'meta', 'schema', 'application')
"""
)

ENQUEUE = (
    PRELUDE
    + """
local stored = {}
for at = 2, #ARGV, 13 do
  local id, queue, run_at, unique = ARGV[at], ARGV[at + 1], ARGV[at + 4], ARGV[at + 10]
  local holder = unique ~= '' and call('HGET', P .. 'unique', unique)
  if holder then
    stored[#stored + 1] = { holder, '0' }
  elseif call('EXISTS', key(id)) == 1 then
    stored[#stored + 1] = { id, '0' }
  else
    call('HSET', key(id), 'id', id, 'queue', queue, 'name', ARGV[at + 2], 'priority', ARGV[at + 3],
      'run_at', run_at, 'expires_at', ARGV[at + 5], 'timeout', ARGV[at + 6], 'max_attempts',
      ARGV[at + 7], 'keep_completed', ARGV[at + 8], 'keep_failed', ARGV[at + 9], 'unique_key',
      unique, 'trace', ARGV[at + 11], 'payload', ARGV[at + 12], 'created', whole(now), 'place', '0',
      'available', '0', 'attempts', '0', 'crashes', '0', 'token', '0', 'owner', '', 'group', '',
      'slot', '-1', 'generation', '0', 'cancel_requested', '0', 'ended', '', 'started', '0',
      'finished', '0', 'progress', '0', 'progress_data', '', 'error', '', 'result', '', 'claim', '')
    if unique ~= '' then call('HSET', P .. 'unique', unique, id) end
    watch_expiry(id)
    if tonumber(run_at) <= now then
      make_available(id, nil)
    else
      call('ZADD', P .. 'scheduled', run_at, id)
      moved(id, queue, nil, '0')
    end
    stored[#stored + 1] = { id, '1' }
  end
end
ring()
return stored
"""
)

CLAIM = (
    PRELUDE
    + _CLAIM
    + """
return claim(2)
"""
)

FINISH = (
    PRELUDE
    + _CLAIM
    + """
local taken, outcomes = {}, tonumber(ARGV[2])
for at = 3, 2 + outcomes * 6, 6 do
  local id, token, event = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local state, current, ended = fields(id, 'state', 'token', 'ended')
  if current ~= token then
    taken[#taken + 1] = '0'
  elseif state ~= '3' then
    taken[#taken + 1] = ended == event and '1' or '0'
  else
    if event == 'succeeded' then call('HSET', key(id), 'result', ARGV[at + 3], 'error', '') end
    end_attempt(id, event, ARGV[at + 4], ARGV[at + 5])
    taken[#taken + 1] = '1'
  end
end
local claimed = {}
if #ARGV > 2 + outcomes * 6 then claimed = claim(3 + outcomes * 6) end
ring()
return { taken, claimed }
"""
)

REPORT = (
    PRELUDE
    + """
local id = ARGV[2]
local state, token, attempts = fields(id, 'state', 'token', 'attempts')
if state ~= '3' or token ~= ARGV[3] then return '0' end
if ARGV[4] ~= '' then call('HSET', key(id), 'progress', ARGV[4], 'progress_data', ARGV[5]) end
for at = 6, #ARGV do
  record(id, 'log', now, 'log', '', '', '-1', '0', attempts + 1, '0', ARGV[at])
end
call('LTRIM', P .. 'log:' .. id, -MOST_LOG_LINES, -1)
return '1'
"""
)

CANCEL_REQUESTED = (
    PRELUDE
    + """
local found = {}
for _, id in ipairs(call('SMEMBERS', P .. 'owner:' .. ARGV[2])) do
  local wanted, token = fields(id, 'cancel_requested', 'token')
  if wanted == '1' then found[#found + 1] = { id, token } end
end
return found
"""
)

RENEW = (
    PRELUDE
    + """
local count = 0
for at = 3, #ARGV do
  for _, id in ipairs(call('SMEMBERS', P .. 'owner:' .. ARGV[at])) do
    call('ZADD', P .. 'leases', whole(now + tonumber(ARGV[2])), id)
    count = count + 1
  end
end
return count
"""
)

RELEASE = (
    PRELUDE
    + """
local ids = {}
for at = 3, #ARGV do
  for _, id in ipairs(call('SMEMBERS', P .. 'owner:' .. ARGV[at])) do ids[#ids + 1] = id end
end
local released = lose(ids, ARGV[2])
ring()
return released
"""
)

REAP = (
    PRELUDE
    + """
local late = call('ZRANGE', P .. 'leases', '-inf', whole(now), 'BYSCORE')
local released = lose(late, ARGV[2])
ring()
return released
"""
)

PROMOTE = (
    PRELUDE
    + """
local until_now = { '-inf', whole(now), 'BYSCORE', 'LIMIT', 0, ARGV[2] }
local late = call('ZRANGE', P .. 'expiring', unpack(until_now))
for _, id in ipairs(late) do
  local state = fields(id, 'state')
  finish_idle(id, state, '7', 'expire')
end
local due = call('ZRANGE', P .. 'scheduled', unpack(until_now))
for _, id in ipairs(due) do make_available(id, '0') end
ring()
return #late + #due
"""
)

PRUNE = (
    PRELUDE
    + """
local old = call('ZRANGE', P .. 'kept', '-inf', whole(now), 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(old) do
  local state = fields(id, 'state')
  delete(id, state)
end
return #old
"""
)
