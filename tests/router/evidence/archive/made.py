"""Evidence for the archive's tests: who said what and when."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import redis

from router.evidence.archive.archiver import Archiver
from router.evidence.archive.batch import Batch
from router.evidence.archive.group import Entry
from router.evidence.archive.parquet import columns_of
from router.evidence.archive.store import Store
from router.evidence.archive.tables import TABLES
from router.evidence.erasure import Tombstones
from router.evidence.records import LabelRecord, PairRecord, TriageLabel
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, LABELS, shard_key, shard_of
from router.record.row import DecisionRow, encode_row
from tests.support.pairs import pair

DAY_S = 86_400.0
Something = PairRecord | LabelRecord | DecisionRow
NOON = 1_700_000_000.0 // DAY_S * DAY_S + DAY_S / 2


def said(number: int, *, key: str = "", user: str = "", at: float = NOON, harm: bool = True) -> PairRecord:
    """A pair with a speaker."""
    return pair(number, harm=harm).model_copy(update={"key": key, "users": [user] if user else [], "time": at})


def label(number: int, verdict: TriageLabel, *, at: float = NOON, by: str = "ann", key: str = "") -> LabelRecord:
    return LabelRecord(id=pair(number).id, time=at, label=verdict, by=by, key=key)


def stream_of(record: Something) -> str:
    if isinstance(record, DecisionRow):
        return DECISIONS
    if isinstance(record, LabelRecord):
        return LABELS
    return AGREEMENTS if record.verdict.same else DISAGREEMENTS


def encoded(record: Something) -> bytes:
    return encode_row(record) if isinstance(record, DecisionRow) else record.model_dump_json().encode()


def add(client: redis.Redis, records: Iterable[Something], shards: int = 1) -> list[tuple[str, str]]:
    """Write them to Redis as a gateway does; the stream's key and the entry's id of each."""
    return [
        (key, client.xadd(key, {"r": encoded(record)}).decode())  # type: ignore[union-attr]
        for record in records
        for key in [shard_key(shard_of(record.id, shards), stream_of(record))]
    ]


def archive_files(store: Store, records: Sequence[Something]) -> None:
    """Write them to an archive, without Redis."""
    for stream in TABLES:
        entries = [Entry("0-1", encoded(record)) for record in records if stream_of(record) == stream]
        if entries:
            Batch(stream, entries, Tombstones(), store).write(lambda: None)


def archiver(client: redis.Redis, url: str | Path, *, shards: int = 1, name: str = "test", **more: Any) -> Archiver:
    return Archiver(client, shards, Store(str(url)), name, **{"lease_s": 30.0, **more})


def lines_in(url: str | Path, stream: str) -> Counter[str]:
    """How often each record is in the files, whatever a reader makes of it."""
    store, table = Store(str(url)), TABLES[stream]
    found: Counter[str] = Counter()
    for part in store.parts(stream):
        columns = columns_of(store, part, [table.identity])
        assert columns is not None
        found.update(columns[table.identity].to_pylist())
    return found


@contextmanager
def following(one: Archiver) -> Iterator[None]:
    """It follows in a thread, and is stopped at the end."""
    stop = threading.Event()
    thread = threading.Thread(target=one.follow, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def forget_memory() -> None:
    """Empty `memory://`, which is one for the whole process."""
    fsspec.filesystem("memory").store.clear()
