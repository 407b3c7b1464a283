"""The scripts by which operators ask and change a job store in Redis."""

from clusterd.jobs.redis_scripts import PRELUDE

# ARGV: most candidates, most ids, before, queue, name, text, owner, whether jobs to be cancelled
# are left out, states as digits, ids. Returns the id to go on below, or '', then what was found.
SELECT = (
    PRELUDE
    + """
local most, limit, before = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local queue, name, text, owner, idle, states = unpack(ARGV, 5, 10)

local function matches(id)
  local state, its_queue, its_name, payload, text_of_error, its_owner, cancelled =
    fields(id, 'state', 'queue', 'name', 'payload', 'error', 'owner', 'cancel_requested')
  return state and string.find(states, state, 1, true)
    and (queue == '' or queue == its_queue) and (name == '' or name == its_name)
    and (owner == '' or (state == '3' and owner == its_owner))
    and (idle == '0' or cancelled == '0')
    and (text == '' or string.find(payload, text, 1, true)
      or string.find(text_of_error, text, 1, true))
end

local found = {}
if #ARGV > 10 then
  for at = 11, #ARGV do
    if matches(ARGV[at]) then found[#found + 1] = ARGV[at] end
  end
  return { '', found }
end

local function newest(state, below)
  local from = below == '' and '+' or '(' .. below
  local ids = call('ZRANGE', P .. 'state:' .. state, from, '-', 'BYLEX', 'REV', 'LIMIT', 0, 1)
  return ids[1]
end

local heads = {}
for state in string.gmatch(states, '.') do heads[state] = newest(state, before) end
while most > 0 and #found < limit do
  local best
  for state, id in pairs(heads) do
    if not best or id > heads[best] then best = state end
  end
  if not best then return { '', found } end
  before = heads[best]
  if matches(before) then found[#found + 1] = before end
  heads[best] = newest(best, before)
  most = most - 1
end
return { before, found }
"""
)

COLUMNS = (
    "id",
    "name",
    "queue",
    "state",
    "payload",
    "priority",
    "run_at",
    "expires_at",
    "timeout",
    "attempts",
    "max_attempts",
    "crashes",
    "unique_key",
    "owner",
    "token",
    "progress",
    "progress_data",
    "error",
    "result",
    "created",
    "started",
    "finished",
    "cancel_requested",
)
OWNER_COLUMNS = ("group", "slot", "generation")
_ALL_COLUMNS = ", ".join(f"'{name}'" for name in (*COLUMNS, *OWNER_COLUMNS))

# ARGV: whether histories are wanted, ids. Those that are not there are left out.
SHOW = (
    PRELUDE
    + f"""
local found = {{}}
for at = 3, #ARGV do
  local id = ARGV[at]
  if call('EXISTS', key(id)) == 1 then
    local lines, logged = {{}}, {{}}
    if ARGV[2] == '1' then
      lines = call('LRANGE', P .. 'history:' .. id, 0, -1)
      logged = call('LRANGE', P .. 'log:' .. id, 0, -1)
    end
    local lease = call('ZSCORE', P .. 'leases', id) or '0'
    found[#found + 1] = {{ call('HMGET', key(id), {_ALL_COLUMNS}), lease, lines, logged }}
  end
end
return found
"""
)

STATS = (
    PRELUDE
    + """
local oldest = {}
local tally = call('HGETALL', P .. 'tally')
for at = 1, #tally, 2 do
  local queue = string.match(tally[at], '^2:(.*)$')
  if queue then
    local first = call('ZRANGE', P .. 'since:' .. queue, 0, 0, 'WITHSCORES')
    if #first > 0 then oldest[#oldest + 1] = { queue, first[2] } end
  end
end
return { tally, call('SMEMBERS', P .. 'paused'), oldest }
"""
)

# What operators do with a job in one of the states that are named. ARGV: what, states, ids.
OPERATE = (
    PRELUDE
    + """
local operations = {}

function operations.cancel(id, state)
  if state ~= '3' then
    finish_idle(id, state, '6', 'cancel')
    return true
  end
  has_work = true -- for its worker
  return call('HGET', key(id), 'cancel_requested') == '0'
    and call('HSET', key(id), 'cancel_requested', '1') == 0
end

function operations.retry(id, state)
  local unique = fields(id, 'unique_key')
  if unique ~= '' and call('HSETNX', P .. 'unique', unique, id) == 0 then return false end
  if state == '4' then record_success(id) end
  record(id, 'history', now, 'run_again', '', '', '-1', '0', 0, '0', '')
  call('HSET', key(id), 'run_at', whole(now), 'expires_at', '0', 'attempts', '0', 'crashes', '0',
    'started', '0', 'finished', '0', 'progress', '0', 'progress_data', '', 'error', '', 'result',
    '')
  call('ZREM', P .. 'kept', id)
  make_available(id, state)
  return true
end

function operations.run_now(id, state)
  call('HSET', key(id), 'run_at', whole(now))
  make_available(id, state)
  return true
end

function operations.purge(id, state)
  delete(id, state)
  return true
end

local count = 0
for at = 4, #ARGV do
  local state = fields(ARGV[at], 'state')
  if state and string.find(ARGV[3], state, 1, true) and operations[ARGV[2]](ARGV[at], state) then
    count = count + 1
  end
end
ring()
return count
"""
)

PAUSE = (
    PRELUDE
    + """
if ARGV[3] == '1' then
  call('SADD', P .. 'paused', ARGV[2])
else
  call('SREM', P .. 'paused', ARGV[2])
  has_work = true
end
ring()
return 1
"""
)
