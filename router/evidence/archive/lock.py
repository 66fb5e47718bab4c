"""The right to archive a shard: one archiver has it at a time, and it ends by itself soon after a holder's death.

It is a lease in Redis. A holder that was frozen for longer than that finds out in `check`, before anything is seen.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import redis

from router.evidence.redis import Unreachable
from router.evidence.streams import shard_key

LEASE_S = 15.0
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class LockLost(Exception):
    """Another archiver may have the shard now."""


class ShardLocks:
    """The locks that this archiver holds; a thread renews them between `with` and its end."""

    def __init__(self, client: redis.Redis, holder: str, lease_s: float = LEASE_S) -> None:
        self._client = client
        self._holder = holder
        self._lease_ms = round(lease_s * 1000)
        self._held: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="archive-locks", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give back what is held; where Redis does not answer, it ends by itself."""
        self._ended.set()
        self._thread.join()
        for shard in tuple(self._held):
            try:
                self.release(shard)
            except Unreachable:
                return

    @property
    def lease_s(self) -> float:
        return self._lease_ms / 1000

    def take(self, shard: int) -> bool:
        """Whether it is now held. Raises RedisError."""
        taken = bool(self._client.set(_key(shard), self._holder, nx=True, px=self._lease_ms)) or self._renew(shard)
        if taken:
            self._held.add(shard)
        return taken

    def check(self, shard: int) -> None:
        """Raises LockLost when it is not held any more, RedisError when that cannot be told."""
        if not self._renew(shard):
            self._held.discard(shard)
        self.require(shard)

    def require(self, shard: int) -> None:
        """The same without asking Redis: raises LockLost where the renewal has found out."""
        if shard not in self._held:
            raise LockLost(f"shard {shard}: another archiver took it over")

    def release(self, shard: int) -> None:
        self._held.discard(shard)
        self._client.eval(_RELEASE, 1, _key(shard), self._holder)

    def forget(self) -> None:
        """Renew none of them any more: they have to be taken anew."""
        self._held.clear()

    def _renew(self, shard: int) -> bool:
        return bool(self._client.eval(_RENEW, 1, _key(shard), self._holder, self._lease_ms))

    def _keep(self) -> None:
        while not self._ended.wait(self._lease_ms / 3000):
            for shard in tuple(self._held):
                try:
                    if not self._renew(shard):
                        self._held.discard(shard)
                except Unreachable:
                    break  # whoever writes finds out by `check`


def _key(shard: int) -> str:
    return shard_key(shard, "archiver")
