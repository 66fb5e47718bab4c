"""The one Lua script behind the rate limits, which runs over a batch of buckets."""

from __future__ import annotations

from router.ledger.names import PREFIX
from router.limits.bucket import LEASE_S, Limit

REDIS_TIME = "redis.call('TIME')"

# KEYS: a hash for each bucket, with the fields
#   level: units nobody holds   at: when that was so (ms)   w:WORKER: `HELD TIME`, the slice of a worker
# ARGV: worker, then for each bucket: amount per minute; units given back (below zero: overdrawn ones); units kept;
# units wanted at least and further ones wanted ahead.
# Gives for each bucket the units granted and the level after that.
#
# A unit is 1/60,000 of what is counted, so that a millisecond refills whole units. What workers hold counts as being
# in the bucket: level and slices together never exceed the capacity, or else a slice kept through a quiet minute would
# come on top of a full bucket. It counts for as long as it could be spent: until its worker speaks again, or for the
# lease; then it is forgotten, and the refill replaces it.
LEASE = (
    f"local lease, clock = {LEASE_S * 1000:.0f}, {REDIS_TIME}"
    + """
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local me, reply = 'w:' .. ARGV[1], {}
local function text(number) return string.format('%.0f', number) end

for i, key in ipairs(KEYS) do
  local at = 5 * i - 3
  local per_minute, returned, kept = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local least, ahead = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local capacity = per_minute * 60000
  local level, since, held, mine, slices = capacity, now, 0, 0, {}
  local fields = redis.call('HGETALL', key)
  for f = 1, #fields, 2 do
    local name, value = fields[f], fields[f + 1]
    if name == 'level' then
      level = tonumber(value)
    elseif name == 'at' then
      since = tonumber(value)
    else
      local size, spoke = string.match(value, '^(%d+) (%d+)$')
      slices[#slices + 1] = {name = name, size = tonumber(size), ends = spoke + lease}
      held = held + size
    end
  end
  local function fill(till)
    if till > since then level, since = level + (till - since) * per_minute, till end
    level = math.min(level, capacity - held)
  end
  table.sort(slices, function(a, b) return a.ends < b.ends end)
  for _, slice in ipairs(slices) do
    if slice.ends < now then
      fill(slice.ends)
      held = held - slice.size
      redis.call('HDEL', key, slice.name)
    elseif slice.name == me then
      mine = slice.size
    end
  end
  fill(now)
  level = math.min(level + returned, capacity - (held - mine) - kept)
  local granted = math.max(0, math.min(least, level))
  granted = granted + math.max(0, math.min(ahead, math.floor((level - granted) / 8)))
  level = level - granted
  redis.call('HSET', key, 'level', text(level), 'at', text(since))
  if kept + granted > 0 then
    redis.call('HSET', key, me, text(kept + granted) .. ' ' .. text(now))
  else
    redis.call('HDEL', key, me)
  end
  -- full again, and no slice valid any more: as if it had never been there
  redis.call('PEXPIRE', key, text(math.ceil((capacity - level) / per_minute) + lease + 1000))
  reply[2 * i - 1], reply[2 * i] = granted, level
end
return reply
"""
)


def bucket_key(limit: Limit) -> str:
    return f"{PREFIX}limit:{limit.scope}:{limit.kind}:{limit.member}"
