"""Keeps one worker's callers as Redis has them: a key that is created works, a revoked one stops, within a second."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from router.auth import Authenticator
from router.evidence.redis import Unreachable
from router.keys.record import KeyRecord
from router.keys.store import UNKNOWN_VERSION, KeyStore, Snapshot
from router.record.metrics import Metrics
from router.tasks import end

log = logging.getLogger("distill_router.keys")

FOLLOW_EVERY_S = 1.0
HEX_DIGEST = re.compile(rb"[0-9a-f]{64}")
SHOWN_OF_HASH = 8


class KeyFollower:
    """`authenticator`: gives the one in effect. While Redis is away the last known keys stay."""

    def __init__(self, store: KeyStore, metrics: Metrics, authenticator: Callable[[], Authenticator]) -> None:
        self._store = store
        self._metrics = metrics
        self._authenticator = authenticator
        self._read: dict[tuple[bytes, bytes], KeyRecord] = {}
        self._records: Mapping[bytes, KeyRecord] | None = None
        self._version = UNKNOWN_VERSION
        self._told: set[str] = set()
        self._answers = True
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the keys once, if Redis answers, and from then on in the background."""
        self.apply(self._authenticator())
        await self._turn()
        self._task = asyncio.create_task(self._run(), name="API keys")

    async def close(self) -> None:
        if self._task:
            await end([self._task])

    def apply(self, authenticator: Authenticator) -> None:
        """Tell an authenticator the keys that are known."""
        if self._records is None:
            authenticator.awaits_stored = True
            return
        for problem in authenticator.adopt(self._records):
            self._tell(problem)

    async def refresh(self) -> None:
        """Look now. Raises what Redis raises."""
        found = await self._store.changed(self._version)
        if found is None:
            return
        records = await asyncio.to_thread(self._readable, found)
        if self._records and not found.version:
            log.warning("Redis has lost its %d API keys", len(self._records))
        self._version, self._records = found.version, records
        self.apply(self._authenticator())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_EVERY_S)
            await self._turn()

    async def _turn(self) -> None:
        try:
            await self.refresh()
            self._answers = True
        except Unreachable as error:
            # another server may answer next, with other keys under the same version
            self._version = UNKNOWN_VERSION
            if self._answers:
                log.warning("API keys in Redis cannot be read, the last known ones stay: %s", error)
            self._answers = False
        except Exception:  # the edge of a background task
            log.exception("API keys not brought up to date")

    def _readable(self, found: Snapshot) -> dict[bytes, KeyRecord]:
        """The records by digest, as the same objects where they have not changed. Bad ones are left out and counted."""
        read = {}
        for field, data in found.records.items():
            record = self._read.get((field, data)) or self._parsed(field, data)
            if record:
                read[field, data] = record
        self._read = read
        return {bytes.fromhex(field.decode()): record for (field, _), record in read.items()}

    def _parsed(self, field: bytes, data: bytes) -> KeyRecord | None:
        if not HEX_DIGEST.fullmatch(field):
            self._skip(field, "its field is no SHA-256")
            return None
        try:
            return KeyRecord.model_validate_json(data)
        except ValidationError as error:
            places = {".".join(map(str, problem["loc"])) or "record" for problem in error.errors(include_input=False)}
            self._skip(field, f"not usable: {', '.join(sorted(places))[:200]!r}")
            return None

    def _skip(self, field: bytes, why: str) -> None:
        self._metrics.keys_skipped.inc()
        self._tell(f"API key record {field[:SHOWN_OF_HASH].decode(errors='replace')!r}… in Redis is skipped: {why}")

    def _tell(self, problem: str) -> None:
        """Once: the same records are read again and again."""
        if problem not in self._told:
            self._told.add(problem)
            log.warning(problem)
