"""Records from the queue as batches: of one shard each, and small enough for one call to Redis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from router.evidence.streams import SUMS, SUMS_SHARD, shard_of

BATCH_RECORDS = 100
BATCH_BYTES = 512 * 1024  # Redis counts a request that it receives as used memory


class Record(NamedTuple):
    """`id`: of the request that it is about."""

    stream: str
    id: str
    data: bytes


@dataclass(slots=True)
class Batch:
    shard: int
    records: dict[str, list[bytes]] = field(default_factory=dict)
    count: int = 0
    size: int = 0

    def add(self, record: Record) -> None:
        self.records.setdefault(record.stream, []).append(record.data)
        self.count += 1
        self.size += len(record.data)

    def has_room(self, record: Record) -> bool:
        return self.count < BATCH_RECORDS and self.size + len(record.data) <= BATCH_BYTES


def batches(records: Iterable[Record], shards: int) -> list[Batch]:
    """In the order of the records, by shard; a record that is larger than a batch should be has one of its own."""
    made: list[Batch] = []
    open_: dict[int, Batch] = {}
    for record in records:
        shard = SUMS_SHARD if record.stream == SUMS else shard_of(record.id, shards)
        batch = open_.get(shard)
        if batch is None or not batch.has_room(record):
            batch = open_[shard] = Batch(shard)
            made.append(batch)
        batch.add(record)
    return made
