"""Creates, reads and revokes API keys in Redis. A change is made only on the state it was decided on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from router.errors import Conflict, NotFound, Unavailable
from router.keys.record import KeyRecord, name_in, new_key
from router.ledger.names import API_KEYS, API_KEYS_VERSION

# KEYS: the keys, their version. ARGV: the version that is known. Gives the version, and all keys if it is another one.
READ = """
local version = redis.call('GET', KEYS[2]) or ''
if version == ARGV[1] then return {version} end
return {version, redis.call('HGETALL', KEYS[1])}
"""

# KEYS: the keys, their version. ARGV: the version that the change is for, the record (empty: delete), the hashes.
CHANGE = """
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return 0 end
for i = 3, #ARGV do
  if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[i]) else redis.call('HSET', KEYS[1], ARGV[i], ARGV[2]) end
end
redis.call('INCR', KEYS[2])
return 1
"""

UNKNOWN_VERSION = b"?"
TRIES = 50

Evaluate = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All records at one moment, as Redis has them: by the hash in hex."""

    version: bytes
    records: Mapping[bytes, bytes]


class KeyStore:
    """`evaluate`: `eval` of a Redis client. Every method raises what that raises."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate

    async def changed(self, known_version: bytes) -> Snapshot | None:
        """What there is; None while its version is the known one."""
        reply = await self._evaluate(READ, 2, API_KEYS, API_KEYS_VERSION, known_version)
        if len(reply) == 1:
            return None
        version, flat = reply
        return Snapshot(version, dict(zip(flat[::2], flat[1::2], strict=True)))

    async def snapshot(self) -> Snapshot:
        found = await self.changed(UNKNOWN_VERSION)
        assert found is not None, "no version is called so"
        return found

    async def create(self, record: KeyRecord, names_in_file: Collection[str]) -> str:
        """Keep the record under a new API key, which is given back and kept nowhere. Raises Conflict, Unavailable."""
        if record.name in names_in_file:
            raise Conflict(f"the configuration file has an API key '{record.name}'; choose another name")
        key, digest = new_key()
        data = record.model_dump_json(exclude_defaults=True)
        for _ in range(TRIES):
            found = await self.snapshot()
            if any(name_in(other) == record.name for other in found.records.values()):
                raise Conflict(f"there is an API key '{record.name}' already; revoke it, or choose another name")
            if await self._change(found.version, data, digest):
                return key
        raise _busy()

    async def revoke(self, name: str, names_in_file: Collection[str]) -> None:
        """Forget a key. Raises NotFound, Conflict for a key of the file, Unavailable."""
        for _ in range(TRIES):
            found = await self.snapshot()
            digests = [digest for digest, data in found.records.items() if name_in(data) == name]
            if not digests and name in names_in_file:
                raise Conflict(f"the API key '{name}' is in the configuration file: remove it there")
            if not digests:
                raise NotFound(f"there is no API key '{name}'")
            if await self._change(found.version, "", *digests):
                return
        raise _busy()

    async def _change(self, version: bytes, data: str, *digests: bytes | str) -> bool:
        return bool(await self._evaluate(CHANGE, 2, API_KEYS, API_KEYS_VERSION, version, data, *digests))


def _busy() -> Unavailable:
    return Unavailable("others change API keys all the time; try again", retry_after_s=1)
