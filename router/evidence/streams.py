"""The names of what the gateway writes down, and where in Redis each of it lies.

A stream is cut into `evidence.shards` keys by the id of the request that a record is about: its row, its pair and its
labels lie on one shard. Each shard has a hash tag of its own, so that Redis Cluster can spread them.
"""

from __future__ import annotations

from zlib import crc32

DECISIONS = "decisions"
DISAGREEMENTS = "disagreements"
AGREEMENTS = "agreements"
LABELS = "labels"
STREAMS = (DECISIONS, DISAGREEMENTS, AGREEMENTS, LABELS)
# Not a stream: additions to numbers in hashes, made exactly as often as a record is written, which is once.
SUMS = "sums"
SUMS_SHARD = 0
MAX_SHARDS = 64  # of any configuration: below it lies what was written before `shards` was lowered


def shard_key(shard: int, name: str) -> str:
    """A key on a shard; all keys of a shard share its hash tag."""
    return f"distill-router:{{evidence-{shard}}}:{name}"


def shard_of(record_id: str, shards: int) -> int:
    """The shard of everything about one request; `ID.shadow` belongs to `ID`."""
    return crc32(record_id.partition(".")[0].encode()) % shards if shards > 1 else 0
