"""Everything that was written about one request, found by its id: row, rows of background calls, pair, labels.

A stream is in the order of writing and an id begins with the time, so that a search begins where the request did and
goes on to the stream's end: what waited in the spool was written later. Redis compares, one short page a script, and
sends only what matches; after each page it is left alone for as long as that took, for whoever else it serves. A search
is bounded in entries and time; `complete` says whether it came to its end. It knows what
Redis holds, or without Redis what this machine's spool does; nothing of archives.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import redis.asyncio as aioredis
from pydantic import BaseModel, ValidationError

from router.bundled_redis import running_url
from router.errors import ConfigError
from router.evidence.erasure import TOMBSTONES, Tombstones, load_tombstones
from router.evidence.read import SKEW_S
from router.evidence.records import LabelRecord, PairRecord
from router.evidence.redis import connect
from router.evidence.spool import read_spool
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, LABELS, shard_key, shard_of
from router.record.row import DecisionRow, decode_row
from router.settings import Settings

M = TypeVar("M", bound=BaseModel)

ID = re.compile(r"[0-9a-f]{22}")
MAX_ENTRIES = 500_000
MAX_S = 5.0
REQUEST_MS = 660_000  # most requests have ended by then
AHEAD_MS = 2_000
AUDIT_MS = 900_000  # where there is no pair, its calls have ended by then
PAGE = {DECISIONS: 100, LABELS: 100, DISAGREEMENTS: 10, AGREEMENTS: 10}  # pairs are large

# KEYS[1]: a stream. ARGV: from, to, entries, and the text that a record must contain.
# Gives how many entries there were, the id of the last one, and ids and records of those that match.
MATCHING = """
local page = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local found = {}
for _, entry in ipairs(page) do
  local record = entry[2][2]
  if record and string.find(record, ARGV[4], 1, true) then
    found[#found + 1] = entry[1]
    found[#found + 1] = record
  end
end
local last = page[#page]
return {#page, last and last[1] or '', found}
"""

Match = tuple[int, bytes]  # when it was written, by Redis' clock, in ms; the record


@dataclass(frozen=True, slots=True)
class Found:
    """`background`: the rows of calls that no client waited for. `complete`: there was time to look everywhere."""

    row: DecisionRow
    background: tuple[DecisionRow, ...] = ()
    pair: PairRecord | None = None
    labels: tuple[LabelRecord, ...] = ()
    complete: bool = True


class Search:
    """One look-up in Redis. Raises `router.evidence.redis.Unreachable` where it does not answer."""

    def __init__(self, client: aioredis.Redis, shards: int, decision_id: str) -> None:
        self._client = client
        self._shard = shard_of(decision_id, shards)
        self._id = decision_id
        self._entries = MAX_ENTRIES
        self._deadline = time.monotonic() + MAX_S
        self.complete = True

    async def row(self, visible: Callable[[DecisionRow], bool]) -> tuple[DecisionRow, int] | None:
        """The row and when it was written, in ms. What is not `visible` is treated like the rows of other requests, so
        that neither the answer nor the time it takes tells that it is there."""
        async for written, data in self._everywhere(DECISIONS):
            row = _row(data)
            if row is not None and row.id == self._id and visible(row):
                return row, written
        return None

    async def background(self, since_ms: int, until_ms: int) -> tuple[DecisionRow, ...]:
        """Rows of background calls that were written then."""
        matches = [data async for _, data in self._between(DECISIONS, f"{since_ms}", f"{until_ms}")]
        rows = [row for data in matches if (row := _row(data)) and row.id.startswith(f"{self._id}.")]
        return tuple({row.id: row for row in rows}.values())

    async def pair(self) -> tuple[PairRecord, int] | None:
        """The pair and when it was written, in ms."""
        for stream in (DISAGREEMENTS, AGREEMENTS):
            async for written, data in self._everywhere(stream):
                pair = await asyncio.to_thread(_record, PairRecord, data)
                if pair is not None and pair.id == self._id:
                    return pair, written
        return None

    async def labels(self) -> tuple[LabelRecord, ...]:
        """Oldest first."""
        found = [_record(LabelRecord, data) async for _, data in self._everywhere(LABELS)]
        return tuple(label for label in found if label is not None and label.id == self._id)

    async def _everywhere(self, stream: str) -> AsyncIterator[Match]:
        """Where it most likely is, then where clocks that differ would have put it, then the rest."""
        began = milliseconds(self._id)
        early, late = max(0, began - AHEAD_MS), began + REQUEST_MS
        skewed = max(0, began - round(SKEW_S * 1000))
        for low, high in ((early, f"{late}"), (skewed, f"{early - 1}"), (late + 1, "+")):
            if high == "+" or int(high) >= low:
                async for match in self._between(stream, f"{low}", high):
                    yield match

    async def _between(self, stream: str, low: str, high: str) -> AsyncIterator[Match]:
        key = shard_key(self._shard, stream)
        while self._may_go_on():
            asked = time.monotonic()
            count, last, found = await self._page(key, low, high, PAGE[stream])
            await self._rest(time.monotonic() - asked)
            for entry, data in zip(found[::2], found[1::2], strict=True):
                yield int(entry.partition(b"-")[0]), data
            if count < PAGE[stream]:
                return
            low = f"({last.decode()}"

    async def _rest(self, took_s: float) -> None:
        """Whoever else is served by this Redis has its turn."""
        await asyncio.sleep(took_s)

    async def _page(self, key: str, low: str, high: str, size: int) -> tuple[int, bytes, list[bytes]]:
        self._entries -= size
        # Also the beginning of a background call's id, `ID.shadow`.
        reply: Any = await self._client.eval(MATCHING, 1, key, low, high, size, f'"id":"{self._id}')
        count, last, found = reply
        return count, last, found

    def _may_go_on(self) -> bool:
        self.complete = self.complete and self._entries > 0 and time.monotonic() < self._deadline
        return self.complete


def evidence_client(settings: Settings) -> aioredis.Redis | None:
    """A connection of its own, so that a search delays no record; the caller closes it. None: no Redis is configured.

    Raises ConfigError where a bundled one does not run.
    """
    config = settings.config.redis
    if config is None:
        return None
    url: str | None = config.evidence_url or config.url
    if url == "embedded":
        url = running_url(config.data_dir)
    if url is None:
        raise ConfigError(f"no bundled Redis runs in {config.data_dir if config else ''}")
    return connect(url, settings)


async def find_row(settings: Settings, decision_id: str, visible: Callable[[DecisionRow], bool]) -> DecisionRow | None:
    """The row of one request; None: there is none to be seen. Raises Unreachable, ConfigError."""
    client = evidence_client(settings)
    if client is None:
        found = await asyncio.to_thread(_in_spool, settings, decision_id, visible)
        return found.row if found else None
    async with client:
        row = await Search(client, settings.config.evidence.shards, decision_id).row(visible)
        return row[0] if row else None


async def find(settings: Settings, decision_id: str, visible: Callable[[DecisionRow], bool]) -> Found | None:
    """All that is known of one request; None: it has no row that may be seen. Raises Unreachable, ConfigError."""
    client = evidence_client(settings)
    if client is None:
        return await asyncio.to_thread(_in_spool, settings, decision_id, visible)
    async with client:
        search = Search(client, settings.config.evidence.shards, decision_id)
        seen = await search.row(visible)
        if seen is None:
            return None
        row, written = seen
        erased = await _tombstones(client)
        labels = tuple(label for label in await search.labels() if not erased.drops(label.key, (), label.time))
        if not row.au:  # nothing was compared
            return Found(row, labels=labels, complete=search.complete)
        pair = await search.pair()
        if pair and erased.drops(pair[0].key, pair[0].users, pair[0].time):
            pair = None
        ended = pair[1] + AHEAD_MS if pair else written + AUDIT_MS
        background = await search.background(written, ended)
        return Found(row, background, pair and pair[0], labels, search.complete)


def milliseconds(decision_id: str) -> int:
    """When the request came, Unix time: the id's first 12 hex digits."""
    return int(decision_id[:12], 16)


async def _tombstones(client: aioredis.Redis) -> Tombstones:
    """Who was erased, and when."""
    stored: Any = await client.hgetall(TOMBSTONES)
    return Tombstones({digest.decode(): float(time_s) for digest, time_s in stored.items()})


def _in_spool(settings: Settings, decision_id: str, visible: Callable[[DecisionRow], bool]) -> Found | None:
    """Blocking."""
    folder, erased = settings.config.evidence.spool_dir, load_tombstones(settings)
    mark = f'"id":"{decision_id}'.encode()

    def matching(stream: str) -> list[bytes]:
        return [data for data in read_spool(folder, stream) if mark in data]

    rows = {row.id: row for data in matching(DECISIONS) if (row := _row(data))}
    row = rows.get(decision_id)
    if row is None or not visible(row):
        return None
    pairs = [_record(PairRecord, data) for stream in (DISAGREEMENTS, AGREEMENTS) for data in matching(stream)]
    labels = [_record(LabelRecord, data) for data in matching(LABELS)]
    return Found(
        row,
        tuple(other for other in rows.values() if other.id.startswith(f"{decision_id}.")),
        next(
            (
                pair
                for pair in pairs
                if pair and pair.id == decision_id and not erased.drops(pair.key, pair.users, pair.time)
            ),
            None,
        ),
        tuple(
            label
            for label in labels
            if label and label.id == decision_id and not erased.drops(label.key, (), label.time)
        ),
    )


def _row(data: bytes) -> DecisionRow | None:
    try:
        return decode_row(data)
    except msgspec.DecodeError:
        return None


def _record(kind: type[M], data: bytes) -> M | None:
    try:
        return kind.model_validate_json(data)
    except ValidationError:
        return None
