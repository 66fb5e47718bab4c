"""Keeps one worker's slots filled with what is in force: a promotion reaches every worker within about a second.

A slot follows the store, or the file of its name (`file:KIND:PATH`). What cannot be loaded changes nothing: it is
logged and counted, and the version that was in force stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Container, Iterable
from pathlib import Path

from policies.learn.trained import FILE, Slot, Slots, Trained
from router.errors import NotFound
from router.evidence.redis import Unreachable
from router.tasks import end
from router.trained.files import path_of
from router.trained.metrics import TrainedMetrics
from router.trained.store import MAX_BYTES, InForce, TrainedStore

log = logging.getLogger("distill_router.trained")

FOLLOW_EVERY_S = 1.0
Mark = InForce | tuple[int, int, int]  # of a file: inode, size, time of its last change


class TrainedFollower:
    """`store` None: no Redis, so that only files are followed. `loads`: `policies.learn.artifact.loads`."""

    def __init__(
        self, store: TrainedStore | None, slots: Slots, metrics: TrainedMetrics, loads: Callable[[bytes], Trained]
    ) -> None:
        self._store = store
        self._slots = slots
        self._metrics = metrics
        self._loads = loads
        self._used: Container[str] | None = None  # all
        self._seen: dict[str, Mark] = {}
        self._lost: set[str] = set()
        self._answers = True
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fill the slots once, as far as Redis answers, and keep them so in the background."""
        await self.turn()
        self._task = asyncio.create_task(self._run(), name="trained policies")

    async def close(self) -> None:
        if self._task:
            await end([self._task])

    def configure(self, names: Collection[str]) -> None:
        """The slots that decide from now on. Others keep what they have, for requests that still run."""
        self._used = names
        for slot in self._slots:
            if slot.name not in names and self._seen.pop(slot.name, None) is not None and slot.current:
                self._metrics.left(slot.name, slot.current.version)

    async def turn(self, coming: Collection[str] = ()) -> None:
        """Look now. `coming`: slots that are about to be used, so that they are filled by then. Raises nothing."""
        async with self._one_at_a_time:
            try:
                await self._refresh(coming)
            except Exception:  # the edge of a background task
                log.exception("trained policies not brought up to date")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_EVERY_S)
            await self.turn()

    async def _refresh(self, coming: Collection[str]) -> None:
        used = self._used
        slots = [slot for slot in self._slots if used is None or slot.name in used or slot.name in coming]
        for slot in slots:
            self._metrics.follows(slot.name)
        await self._follow_files([slot for slot in slots if path_of(slot.name)])
        if self._store is None:
            return
        try:
            await self._follow_store(self._store, [slot for slot in slots if not path_of(slot.name)])
            self._answers = True
        except Unreachable as error:
            if self._answers:
                log.warning("trained policies in Redis cannot be read, the last known ones stay: %s", error)
            self._answers = False

    async def _follow_store(self, store: TrainedStore, slots: Iterable[Slot]) -> None:
        """Raises what Redis raises; what was not read then is read at the next turn."""
        by_name = {slot.name: slot for slot in slots}
        found = await store.in_force(by_name)
        self._tell_of_lost({name for name in by_name if name in self._seen and name not in found})
        for name, mark in found.items():
            if self._seen.get(name) == mark:
                continue
            try:
                data = await store.file(name, mark.number)
            except NotFound as error:
                self._refuse(by_name[name], mark, error.message)
                continue
            await self._take(by_name[name], mark, data)

    async def _follow_files(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            path = path_of(slot.name)
            assert path is not None, "only such slots are handed in"
            mark: Mark = (0, 0, 0)
            try:
                mark = await asyncio.to_thread(_mark, path)
                if self._seen.get(slot.name) != mark:
                    await self._take(slot, mark, await asyncio.to_thread(_read, path))
            except OSError as error:
                self._refuse(slot, mark, error.strerror or str(error))

    async def _take(self, slot: Slot, mark: Mark, data: bytes) -> None:
        """Load a file beside the event loop, and swap it in by one assignment."""
        try:
            trained = await asyncio.to_thread(self._loads, data)
            _require_kind(slot.name, trained)
        except Exception as error:  # whatever a file holds, the other slots are followed on
            self._refuse(slot, mark, str(error) if isinstance(error, ValueError) else repr(error))
            return
        before = slot.current.version if slot.current else None
        slot.current = trained
        self._seen[slot.name] = mark
        self._metrics.swapped(slot.name, before, trained.version)
        log.info("trained policy %s: version %s is in force%s", slot.name, trained.version, _instead_of(before))

    def _refuse(self, slot: Slot, mark: Mark, why: str) -> None:
        """Once for each version."""
        if self._seen.get(slot.name) == mark:
            return
        self._seen[slot.name] = mark
        self._metrics.loads.labels(slot.name, "bad").inc()
        stays = f"version {slot.current.version} stays" if slot.current else "there is no other"
        log.error("trained policy %s cannot be used, %s: %s", slot.name, stays, why)

    def _tell_of_lost(self, lost: set[str]) -> None:
        for name in sorted(lost - self._lost):
            log.warning("Redis has lost the trained policy %s; its last known version stays in this worker", name)
        self._lost = lost


def _instead_of(before: str | None) -> str:
    return f" instead of {before}" if before else ""


def _require_kind(name: str, trained: Trained) -> None:
    """Raises ValueError for a policy of another kind than its name says."""
    expected = name.split(":", 2)[1] if name.startswith(FILE) else name.rpartition(":")[2]
    if trained.kind != expected:
        raise ValueError(f"it is of kind {trained.kind}, not {expected}")


def _mark(path: Path) -> Mark:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: Path) -> bytes:
    """Raises OSError, also for what is too large to be one."""
    if path.stat().st_size > MAX_BYTES:
        raise OSError(f"it is larger than {MAX_BYTES} bytes")
    return path.read_bytes()
