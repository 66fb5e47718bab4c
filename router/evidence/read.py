"""Reading evidence back for the command line: from Redis and from what still waits in the spool. Blocking."""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import redis
from pydantic import ValidationError

from router.errors import ConfigError
from router.evidence.erasure import Tombstones, load_tombstones
from router.evidence.records import LabelRecord, PairRecord
from router.evidence.redis import Unreachable, connect_blocking
from router.evidence.scripts import marker_key
from router.evidence.spool import read_spool
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, LABELS, shard_key
from router.record.row import DecisionRow, decode_row
from router.settings import Settings

PAGE = 500
SKEW_S = 300.0  # how far Redis' clock may be behind a gateway's
Entry = tuple[str, bytes]
Cursor = tuple[str, ...]  # where a reader stands: an entry id in each shard


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back a stream goes. `oldest_s`: when its oldest record was written, by Redis' clock; None: it is empty.

    `trimmed`: whether older ones may have been there.
    """

    oldest_s: float | None
    trimmed: bool


class Evidence:
    """What a gateway with these settings has written, without the erased."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shards = range(settings.config.evidence.shards)
        self._spool = settings.config.evidence.spool_dir
        self._redis = connect_blocking(settings, "evidence")

    def pairs(self, *, agreements: bool = True, since: float = 0.0) -> Iterator[PairRecord]:
        """Pair records, disagreements first, each once. Records of a version this program does not know are skipped.

        `since` leaves out what was written before, about: see `records`.
        """
        seen: set[str] = set()
        for stream in (DISAGREEMENTS, AGREEMENTS) if agreements else (DISAGREEMENTS,):
            for data in self.records(stream, since):
                with contextlib.suppress(ValidationError):
                    record = PairRecord.model_validate_json(data)
                    if record.id not in seen:
                        seen.add(record.id)
                        yield record

    def labels(self) -> Iterator[LabelRecord]:
        """What people said of pairs, oldest first; the latest word on a pair counts."""
        for data in self.records(LABELS):
            with contextlib.suppress(ValidationError):
                yield LabelRecord.model_validate_json(data)

    def latest(self, stream: str, count: int) -> tuple[Cursor, list[bytes]]:
        """The last `count` records of a stream, oldest first, and where to go on from."""
        waiting = self._waiting(stream)
        pages = [
            [] if self._redis is None else self._page("XREVRANGE", shard_key(shard, stream), "+", "-", count)
            for shard in self._shards
        ]
        last = tuple(page[0][0] if page else "0" for page in pages)
        stored = [data for _, data in sorted(itertools.chain(*pages), key=_order)]
        erased = self._erased(stream)
        return last, [data for data in [*stored, *_absent(waiting, stored)] if not erased.drops_record(data)][-count:]

    def after(self, stream: str, last: Cursor) -> tuple[Cursor, list[bytes]]:
        """What came after `last`, waiting up to a second; and where to go on from."""
        if self._redis is None:
            raise ConfigError("redis: following needs Redis; without it evidence is in the spool only")
        keys = [shard_key(shard, stream) for shard in self._shards]
        reply = _execute(self._redis, "XREAD", "COUNT", PAGE, "BLOCK", 1000, "STREAMS", *keys, *last)
        fresh = {key.decode(): _entries(entries) for key, entries in reply}
        cursor = tuple(fresh[key][-1][0] if fresh.get(key) else at for key, at in zip(keys, last, strict=True))
        erased = self._erased(stream)
        found = sorted(itertools.chain(*fresh.values()), key=_order)
        return cursor, [data for _, data in found if not erased.drops_record(data)]

    def rows(self, since: float = 0.0) -> Iterator[DecisionRow]:
        """Decision rows, oldest first, each once: a replay that a crash interrupted repeats some.

        `since` leaves out what was written before, about: see `records`.
        """
        seen: set[str] = set()
        for data in self.records(DECISIONS, since):
            with contextlib.suppress(msgspec.DecodeError):
                row = decode_row(data)
                if row.id not in seen:
                    seen.add(row.id)
                    yield row

    def records(self, stream: str, since: float = 0.0) -> Iterator[bytes]:
        """Every record of a stream, then those in the spool that Redis does not have. Raises ConfigError when Redis
        does not answer.

        `since` (Unix time) skips what was in the stream by then; clocks may differ by `SKEW_S`, so some of it comes.
        """
        erased = self._erased(stream)
        waiting = dict.fromkeys(self._waiting(stream))  # before Redis, where they may go meanwhile
        start = f"{max(0, int((since - SKEW_S) * 1000))}"
        for _, data in heapq.merge(
            *(self._range(shard_key(shard, stream), start) for shard in self._shards), key=_order
        ):
            waiting.pop(data, None)
            if not erased.drops_record(data):
                yield data
        yield from (data for data in waiting if not erased.drops_record(data))

    def _erased(self, stream: str) -> Tombstones:
        """Decision rows hold no text, and stay."""
        return Tombstones() if stream == DECISIONS else load_tombstones(self._settings)

    def _waiting(self, stream: str) -> list[bytes]:
        """What is in the spool and not in Redis."""
        return list(read_spool(self._spool, stream, lru_cache(None)(self._marker) if self._redis else None))

    def _marker(self, producer: str, shard: int) -> int:
        assert self._redis is not None
        try:
            return int(self._redis.get(marker_key(shard, producer)) or 0)
        except Unreachable as error:
            raise ConfigError(f"redis: no answer: {error}") from error

    def reach(self) -> Reach:
        """How far back the decision rows in Redis go. Raises ConfigError when Redis does not answer."""
        found = [reach for shard in self._shards if (reach := self._reach(shard_key(shard, DECISIONS))).oldest_s]
        trimmed = [reach for reach in found if reach.trimmed]
        if trimmed:
            return max(trimmed, key=lambda reach: reach.oldest_s or 0)
        return min(found, key=lambda reach: reach.oldest_s or 0, default=Reach(None, trimmed=False))

    def _reach(self, key: str) -> Reach:
        oldest = self._page("XRANGE", key, "-", "+", 1) if self._redis else []
        if self._redis is None or not oldest:
            return Reach(None, trimmed=False)
        return Reach(int(oldest[0][0].partition("-")[0]) / 1000, self._trimmed(self._redis, key))

    def _trimmed(self, client: redis.Redis, key: str) -> bool:
        """From Redis 7 on it counts what was ever added; before, a bound that has not been reached must do."""
        try:
            stream, memory = client.xinfo_stream(key), client.info("memory")
        except Unreachable as error:
            raise ConfigError(f"redis: no answer: {error}") from error
        added = stream.get("entries-added")
        if added is not None:
            return bool(added > stream["length"])
        bound = self._settings.config.evidence.decisions_max // len(self._shards)
        return bool(stream["length"] >= bound or memory["maxmemory"])

    def _range(self, key: str, start: str) -> Iterator[Entry]:
        while self._redis is not None and (page := self._page("XRANGE", key, start, "+", PAGE)):
            yield from page
            start = f"({page[-1][0]}"

    def _page(self, command: str, key: str, low: str, high: str, count: int) -> list[Entry]:
        assert self._redis is not None
        return _entries(_execute(self._redis, command, key, low, high, "COUNT", count))


def _order(entry: Entry) -> tuple[int, int]:
    """An entry id as numbers: by time, over all shards."""
    time_ms, _, number = entry[0].partition("-")
    return int(time_ms), int(number)


def _absent(waiting: Iterable[bytes], stored: Iterable[bytes]) -> list[bytes]:
    known = set(stored)
    return [data for data in waiting if data not in known]


def _execute(client: redis.Redis, *command: object) -> list[tuple[bytes, list[tuple[bytes, list[bytes]]]]]:
    try:
        reply = client.execute_command(*command)  # type: ignore[no-untyped-call]  # untyped there
    except Unreachable as error:
        raise ConfigError(f"redis: no answer: {error}") from error
    return list(reply.items() if isinstance(reply, dict) else reply or [])


def _entries(reply: object) -> list[Entry]:
    """Entry id and record of each entry of a stream reply; entries without a record (deleted) are left out."""
    assert isinstance(reply, list)
    entries = []
    for entry_id, fields in reply:
        values = list(fields.values()) if isinstance(fields, dict) else list(fields or [])[1::2]
        if values:
            entries.append((entry_id.decode(), values[0]))
    return entries
