"""What is done to Redis in one step: a batch is appended, and its number is noted, together or not at all.

The number of a producer's last batch on a shard is its marker. Redis keeps the marker and the records in the same way:
what a killed server loses of the one it loses of the other. So the marker says what has to be sent again, and a batch
that is sent twice is in Redis once. Without `noeviction` a full Redis may remove a marker: see docs/redis.md.
"""

from __future__ import annotations

from hashlib import sha1

from router.evidence.streams import shard_key

MARKER_S = 7 * 24 * 3600  # a producer that is silent for so long may repeat what waits in its log
SUMS_S = 40 * 24 * 3600

APPENDED, HAD, GAP = 1, 0, -1

# KEYS: the marker, the streams, the hashes of sums. ARGV: the batch's number; the number that the marker must have
# reached; how many streams; for each its bound in entries, how many records, the records; for each hash how many
# fields, and each field with what is added. What could fail is looked at before anything is written; for lack of memory
# Redis refuses the first write of a script or none.
APPEND = f"""
local number, floor, streams = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local marker = tonumber(redis.call('GET', KEYS[1]) or '0')
if marker >= number then return {HAD} end
if marker < floor then return {GAP} end
for i = 2, #KEYS do
  local kind, wanted = redis.call('TYPE', KEYS[i]).ok, i <= streams + 1 and 'stream' or 'hash'
  if kind ~= 'none' and kind ~= wanted then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. kind .. ' and must be a ' .. wanted)
  end
end
redis.call('SET', KEYS[1], number, 'EX', {MARKER_S})
local at = 4
for i = 2, streams + 1 do
  local bound, last = ARGV[at], at + 1 + ARGV[at + 1]
  for j = at + 2, last do redis.call('XADD', KEYS[i], 'MAXLEN', '~', bound, '*', 'r', ARGV[j]) end
  at = last + 1
end
for i = streams + 2, #KEYS do
  local last = at + 2 * ARGV[at]
  for j = at + 1, last, 2 do redis.pcall('HINCRBYFLOAT', KEYS[i], ARGV[j], ARGV[j + 1]) end
  redis.call('EXPIRE', KEYS[i], {SUMS_S})
  at = last + 1
end
return {APPENDED}
"""
APPEND_SHA = sha1(APPEND.encode(), usedforsecurity=False).hexdigest()


def marker_key(shard: int, producer: str) -> str:
    return shard_key(shard, f"producer:{producer}")
