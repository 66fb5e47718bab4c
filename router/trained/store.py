"""Numbered versions of trained policies in Redis, and which one is in force. A change is one step for all who look.

A name is `ROUTE:KIND`, such as `auto:difficulty`. Of each name a bounded number of versions is kept: the newest, and
whatever their age the one in force and the one before it. It does not know what is in a file.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from router.errors import BadRequest, Conflict, NotFound
from router.trained.record import VersionRecord

PREFIX = "distill-router:{trained}:"
CURRENT = PREFIX + "current"  # hash: name -> `number version` of what is in force
NUMBERS = PREFIX + "numbers"  # hash: name -> the last number given
KEPT = 20
MAX_BYTES = 64 * 1024 * 1024
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*:[a-z][a-z0-9_-]*")

# KEYS: numbers, files, records, promoted. ARGV: name, file, record, how many are kept. Gives the new version's number.
PUT = """
local number = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('HSET', KEYS[2], number, ARGV[2])
redis.call('HSET', KEYS[3], number, ARGV[3])
local spared = {}
for _, promoted in ipairs(redis.call('LRANGE', KEYS[4], 0, 1)) do spared[promoted] = true end
local numbers = redis.call('HKEYS', KEYS[3])
table.sort(numbers, function(a, b) return tonumber(a) < tonumber(b) end)
for i = 1, #numbers - tonumber(ARGV[4]) do
  if not spared[numbers[i]] then
    redis.call('HDEL', KEYS[2], numbers[i])
    redis.call('HDEL', KEYS[3], numbers[i])
  end
end
return number
"""

# KEYS: current, promoted, records, trials. ARGV: name, number, what must be in force ('*': anything, '': nothing),
# how many are remembered. Gives 'done', 'already', 'unknown' or 'changed'.
PROMOTE = """
local record = redis.call('HGET', KEYS[3], ARGV[2])
if not record then return 'unknown' end
local inforce = redis.call('LINDEX', KEYS[2], 0) or ''
if ARGV[3] ~= '*' and ARGV[3] ~= inforce then return 'changed' end
if inforce == ARGV[2] then return 'already' end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('LTRIM', KEYS[2], 0, ARGV[4] - 1)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. cjson.decode(record).version)
redis.call('DEL', KEYS[4])
return 'done'
"""

# KEYS: as for PROMOTE. ARGV: name. Gives the number that is in force now, or '' where there was none before.
ROLLBACK = """
local promoted = redis.call('LRANGE', KEYS[2], 0, -1)
for place = 2, #promoted do
  local record = redis.call('HGET', KEYS[3], promoted[place])
  if record then
    redis.call('LTRIM', KEYS[2], place - 1, -1)
    redis.call('HSET', KEYS[1], ARGV[1], promoted[place] .. ' ' .. cjson.decode(record).version)
    redis.call('DEL', KEYS[4])
    return promoted[place]
  end
end
return ''
"""

# KEYS: current. ARGV: names. Gives what is in force under each.
LOOK = "return redis.call('HMGET', KEYS[1], unpack(ARGV))"

# KEYS: files. ARGV: number.
READ = "return redis.call('HGET', KEYS[1], ARGV[1])"

# KEYS: records, promoted. Gives numbers and records in turn, and the numbers that were in force, the last one first.
LIST = "return {redis.call('HGETALL', KEYS[1]), redis.call('LRANGE', KEYS[2], 0, -1)}"

# KEYS: numbers.
NAMES = "return redis.call('HKEYS', KEYS[1])"

# KEYS: trials. Gives how many comparisons there were since the last promotion, this one included.
TRIAL = "return redis.call('INCR', KEYS[1])"

Evaluate = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class InForce:
    """Which version is in force: its number, and the digest that tells it from another one of that number."""

    number: int
    version: str


@dataclass(frozen=True, slots=True)
class Stored:
    """One version. `promoted`: it is in force or was, and a rollback may come back to it."""

    name: str
    number: int
    record: VersionRecord
    in_force: bool
    promoted: bool


class TrainedStore:
    """`evaluate`: `eval` of a Redis client that answers in bytes. Every method raises what that raises."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate

    async def in_force(self, names: Iterable[str]) -> dict[str, InForce]:
        """What is in force, of the names where anything is."""
        asked = list(names)
        if not asked:
            return {}
        found = await self._evaluate(LOOK, 1, CURRENT, *asked)
        return {name: _in_force(value) for name, value in zip(asked, found, strict=True) if value}

    async def file(self, name: str, number: int) -> bytes:
        """A version's file. Raises NotFound."""
        data = await self._evaluate(READ, 1, _key(name, "files"), number)
        if data is None:
            raise NotFound(f"trained policy '{name}' has no version {number}; `policy list` shows what is kept")
        return bytes(data)

    async def versions(self, name: str) -> list[Stored]:
        """What is kept under a name, oldest first."""
        flat, promoted = await self._evaluate(LIST, 2, _key(name, "records"), _key(name, "promoted"))
        records = {int(number): data for number, data in zip(flat[::2], flat[1::2], strict=True)}
        before = [int(number) for number in promoted]
        return [
            Stored(
                name=name,
                number=number,
                record=VersionRecord.model_validate_json(data),
                in_force=before[:1] == [number],
                promoted=number in before,
            )
            for number, data in sorted(records.items())
        ]

    async def find(self, name: str, number: int | None) -> Stored:
        """One version; None: the one in force, else the newest. Raises NotFound."""
        kept = await self.versions(name)
        if not kept:
            known = ", ".join(await self.names()) or "none; `policy train` makes one"
            raise NotFound(f"there is no trained policy '{name}'; known: {known}")
        if number is None:
            return next((each for each in kept if each.in_force), kept[-1])
        found = next((each for each in kept if each.number == number), None)
        if found is None:
            raise NotFound(
                f"trained policy '{name}' has no version {number}; kept: {', '.join(str(each.number) for each in kept)}"
            )
        return found

    async def names(self) -> list[str]:
        """Every name under which something was ever kept, in alphabetical order."""
        return sorted(name.decode() for name in await self._evaluate(NAMES, 1, NUMBERS))

    async def put(self, name: str, data: bytes, record: VersionRecord) -> int:
        """Keep a version, without promoting it; gives its number. Raises BadRequest for a bad name or size."""
        if not NAME.fullmatch(name):
            raise BadRequest(f"'{name}' is no name of a trained policy; expected ROUTE:KIND, such as auto:difficulty")
        if len(data) > MAX_BYTES:
            raise BadRequest(f"a trained policy of {len(data)} bytes is too large to keep; at most {MAX_BYTES}")
        keys = NUMBERS, _key(name, "files"), _key(name, "records"), _key(name, "promoted")
        return int(await self._evaluate(PUT, 4, *keys, name, data, record.model_dump_json(), KEPT))

    async def promote(self, name: str, number: int, instead_of: int | Literal["*"] | None = "*") -> bool:
        """Put a version in force; False: it was already. `instead_of`: only while that one is (None: none is).

        Raises NotFound, and Conflict when something else has been promoted meanwhile.
        """
        keys = CURRENT, _key(name, "promoted"), _key(name, "records"), _key(name, "trials")
        expected = "" if instead_of is None else str(instead_of)
        said = await self._evaluate(PROMOTE, 4, *keys, name, number, expected, KEPT)
        if said == b"unknown":
            await self.find(name, number)  # says what there is
            raise NotFound(f"trained policy '{name}' has lost version {number} this moment")
        if said == b"changed":
            raise Conflict(
                f"another version of '{name}' was promoted meanwhile; version {number} is kept, not in force"
            )
        return bool(said == b"done")

    async def rollback(self, name: str) -> int:
        """Put in force again what was before; gives its number. Raises NotFound, Conflict where nothing was."""
        await self.find(name, None)
        keys = CURRENT, _key(name, "promoted"), _key(name, "records"), _key(name, "trials")
        number = await self._evaluate(ROLLBACK, 4, *keys, name)
        if not number:
            raise Conflict(
                f"nothing that is still kept was in force before the current version of '{name}': "
                "promote another by its number, or set `kind: fixed` in the route's policy"
            )
        return int(number)

    async def count_trial(self, name: str) -> int:
        """One more comparison of a candidate with the version in force; gives how many since it was promoted."""
        return int(await self._evaluate(TRIAL, 1, _key(name, "trials")))


def _key(name: str, part: str) -> str:
    return f"{PREFIX}{name}:{part}"


def _in_force(value: bytes) -> InForce:
    number, _, version = value.decode().partition(" ")
    return InForce(int(number), version)
