"""The two Lua scripts behind the ledger: workers talk to Redis through TALK, readers through LOOK.

Numbers are nano-dollars below 2^53, which a Lua number holds exactly; they are written with `%.0f`, because `tostring`
would round them.
"""

from __future__ import annotations

from router.ledger.names import ALIVE, SEQUENCE

# What the workers of one window have leased. A worker that no longer speaks cannot say what it spent of its ceiling:
# the difference is presumed spent, and so is what ended workers left under the empty name.
_TOTALS = f"""
local function totals(key, me)
  local t = {{ceiling = 0, spent = 0, presumed = 0, slack = 0, alive = 0}}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local c, s, r = string.match(all[i + 1], '^(%d+) (%d+) (%d+)$')
    if c then
      c, s, r = tonumber(c), tonumber(s), tonumber(r)
      t.ceiling, t.spent = t.ceiling + c, t.spent + s
      if all[i] == me then
        t.alive = t.alive + 1
      elseif all[i] ~= '' and redis.call('EXISTS', '{ALIVE}' .. all[i]) == 1 then
        t.alive, t.slack = t.alive + 1, t.slack + c - s - r
      else
        t.presumed = t.presumed + c - s
      end
    end
  end
  return t
end
"""

# KEYS[1]: RUN. ARGV: worker, number of the talk, lease in ms, time to declare in ms, and as JSON
#   leases: [key, ceiling held, spent, reserved, presumed spent, wanted in advance, limit, expiry, base ceiling,
#            base spent, starts of the other parts that share the limit]
#   needs:  [amount, numbers of leases], requests that wait: each is granted on all of its leases or on none
#   sums:   [key, expiry, field, value, field, value, ...]
#   folds:  window keys and hour keys whose values of this worker go under the empty name
# A worker's own word on what it holds and spent always stands: it is cumulative, so that saying it again changes
# nothing and a Redis that has lost data is healed by it. A talk that arrives late, after a newer one, is ignored.
# After a restart (the run id has changed) nothing is granted until every living worker had the time to declare. What
# a worker leaves in that time stays under its own name, which counts alike: under the empty name it would be taken for
# part of what the declarations say of that. Ends are remembered for 400 days, so that a journal is not settled twice.
TALK = (
    _TOTALS
    + f"""
local worker, number = ARGV[1], tonumber(ARGV[2])
local body = cjson.decode(ARGV[5])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local last = redis.call('GET', '{SEQUENCE}' .. worker)
if last and number <= tonumber(last) then return {{0}} end
redis.call('SET', '{SEQUENCE}' .. worker, string.format('%.0f', number), 'EX', body['end'] and 34560000 or 604800)
if body['end'] then
  redis.call('DEL', '{ALIVE}' .. worker)
else
  redis.call('SET', '{ALIVE}' .. worker, 1, 'PX', ARGV[3])
end

local server = redis.pcall('INFO', 'server')
local id = type(server) == 'string' and string.match(server, 'run_id:(%w+)') or ''
local known = redis.call('HMGET', KEYS[1], 'id', 'until')
local open_at = tonumber(known[2] or '0')
if known[1] ~= id then
  open_at = now + tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'id', id, 'until', string.format('%.0f', open_at))
end
local declaring = now < open_at

for _, l in ipairs(body.leases) do
  redis.call('HSET', l[1], worker, string.format('%.0f %.0f %.0f', l[2], l[3], l[4]))
  redis.call('EXPIREAT', l[1], string.format('%.0f', l[8]))
  if l[5] > 0 then
    local forgiven = tonumber(redis.call('HGET', l[1], '*forgiven:' .. worker) or '0')
    redis.call('HSET', l[1], worker .. '~', string.format('%.0f 0 0', math.max(0, l[5] - forgiven)))
  end
  if declaring then
    local base = redis.call('HGET', l[1], '') or '0 0 0'
    local c, s = string.match(base, '^(%d+) (%d+)')
    if l[9] > tonumber(c) or l[10] > tonumber(s) then
      c, s = math.max(l[9], tonumber(c)), math.max(l[10], tonumber(s))
      redis.call('HSET', l[1], '', string.format('%.0f %.0f 0', math.max(c, s), s))
    end
  end
end

local reply = {{1, id, declaring and open_at - now or 0}}
local all, left, granted, short, oldest_of = {{}}, {{}}, {{}}, {{}}, {{}}
for n, l in ipairs(body.leases) do
  local t = totals(l[1], worker)
  local prefix, start = string.match(l[1], '^(.*:)(%d+)$')
  local oldest = tonumber(start)
  for _, part in ipairs(l[11]) do
    local other = totals(prefix .. string.format('%.0f', part), worker)
    if other.ceiling > 0 and part < oldest then oldest = part end
    for name, value in pairs(other) do
      if name ~= 'alive' then t[name] = t[name] + value end
    end
  end
  all[n], left[n], granted[n], oldest_of[n] = t, l[7] - t.ceiling, 0, oldest
end

local function fits(need)
  local all_fit = true
  for i = 2, #need do
    if left[need[i]] - granted[need[i]] < need[1] then all_fit, short[need[i]] = false, true end
  end
  return all_fit
end

if not declaring then
  for _, need in ipairs(body.needs) do
    if fits(need) then
      for i = 2, #need do granted[need[i]] = granted[need[i]] + need[1] end
    end
  end
end

for n, l in ipairs(body.leases) do
  local t = all[n]
  if short[n] then
    redis.call('HSET', l[1], '*starved', string.format('%.0f', now))
  elseif l[6] > 0 and not declaring then
    granted[n] = granted[n] + math.max(0, math.min(left[n] - granted[n], l[6]))
  end
  if granted[n] > 0 then
    redis.call('HSET', l[1], worker, string.format('%.0f %.0f %.0f', l[2] + granted[n], l[3], l[4]))
  end
  local starved = tonumber(redis.call('HGET', l[1], '*starved') or '0')
  local base_c, base_s = string.match(redis.call('HGET', l[1], '') or '0 0 0', '^(%d+) (%d+)')
  local numbers = {{granted[n], t.ceiling + granted[n], t.spent, t.presumed, t.slack, t.alive,
                   now - starved < 1000 and 1 or 0, tonumber(base_c), tonumber(base_s), oldest_of[n]}}
  for _, value in ipairs(numbers) do reply[#reply + 1] = value end
end

for _, sum in ipairs(body.sums) do
  for i = 3, #sum, 2 do redis.call('HSET', sum[1], sum[i], string.format('%.0f', sum[i + 1])) end
  redis.call('EXPIREAT', sum[1], string.format('%.0f', sum[2]))
end

local function fold_window(key)
  for _, name in ipairs({{worker, worker .. '~'}}) do
    local mine = redis.call('HGET', key, name)
    if mine then
      local c, s = string.match(mine, '^(%d+) (%d+)')
      local base_c, base_s = string.match(redis.call('HGET', key, '') or '0 0 0', '^(%d+) (%d+)')
      redis.call('HSET', key, '', string.format('%.0f %.0f 0', base_c + c, base_s + s))
      redis.call('HDEL', key, name)
    end
  end
end

local function fold_hour(key)
  local mine = worker .. '|'
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, #mine) == mine then
      redis.call('HINCRBY', key, string.sub(all[i], #mine), all[i + 1])
      redis.call('HDEL', key, all[i])
    end
  end
end

if not declaring then
  for _, key in ipairs(body.windows) do fold_window(key) end
end
for _, key in ipairs(body.hours) do fold_hour(key) end
return reply
"""
)

# KEYS: window keys that share a limit, the current one first.
# Gives ceiling, spent, presumed spent, slack, workers alive.
LOOK = (
    _TOTALS
    + """
local sum = {ceiling = 0, spent = 0, presumed = 0, slack = 0, alive = 0}
for _, key in ipairs(KEYS) do
  for name, value in pairs(totals(key, '*')) do sum[name] = sum[name] + value end
end
return {sum.ceiling, sum.spent, sum.presumed, sum.slack, sum.alive}
"""
)

# KEYS: window keys. What is presumed spent is forgiven: the ceilings of workers that do not speak fall to what they
# spent. Gives the nano-dollars that came free.
FORGIVE = f"""
local freed = 0
for _, key in ipairs(KEYS) do
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local c, s = string.match(all[i + 1], '^(%d+) (%d+) %d+$')
    if c and (all[i] == '' or redis.call('EXISTS', '{ALIVE}' .. all[i]) == 0) then
      freed = freed + c - s
      if string.sub(all[i], -1) == '~' then
        redis.call('HINCRBY', key, '*forgiven:' .. string.sub(all[i], 1, -2), c)
      end
      redis.call('HSET', key, all[i], s .. ' ' .. s .. ' 0')
    end
  end
end
return freed
"""
