"""The Lua script by which the leader writes: what workers follow, and at times its memory with the cursor of events."""

from __future__ import annotations

# KEYS: leader, memory, events, states. ARGV: the leader's token, its lease in ms, seconds that a state is kept, state
# and cursor to remember ('' and '': not now), then what to write to each of the states.
# Only who holds the token writes: a leader that was frozen for longer than its lease finds that out here, before
# anything is seen. Memory and cursor change together, so that each event is in the memory once or not at all.
PUBLISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[2], 'state', ARGV[4], 'cursor', ARGV[5])
  redis.call('XTRIM', KEYS[3], 'MINID', ARGV[5])
end
for n = 4, #KEYS do redis.call('SET', KEYS[n], ARGV[n + 2], 'EX', ARGV[3]) end
return 1
"""

# KEYS: leader. ARGV: its token.
RESIGN = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"
