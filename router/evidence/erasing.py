"""Removing what the erased have said from Redis and from the spool; for archives see `router.evidence.archive.erase`.

Blocking. Labels go first: a run that was cut short still finds by its pairs which labels belong to them. Decision rows
hold no text, and stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
import redis

from router.errors import ConfigError
from router.evidence.archive.group import DEAD
from router.evidence.erasure import Subject, Tombstones, who
from router.evidence.records import USER_FIELDS
from router.evidence.redis import Unreachable
from router.evidence.segment import Frame, decode_frames, encode_frames
from router.evidence.spool import ERASING, Log, Spool, create_private, read_spool, write_all
from router.evidence.streams import AGREEMENTS, DISAGREEMENTS, LABELS, shard_key

PAGE = 500
PAIRS = (DISAGREEMENTS, AGREEMENTS)
# What takes the place of an erased record in a log: an empty one, in a stream that nobody has, which is counted and
# left out when the log is brought to Redis. So the log's totals stay right.
ERASED = "erased"


class Place(Protocol):
    """Somewhere evidence is kept. `name`: as a person calls it. Every method raises ConfigError."""

    @property
    def name(self) -> str: ...
    def pairs(self, tombstones: Tombstones) -> set[str]:
        """The ids of the pairs that are to go."""
        ...

    def erase_labels(self, tombstones: Tombstones, pairs: Collection[str]) -> int:
        """Remove what was said of these pairs, and what the erased have said of others; how many labels that was."""
        ...

    def erase_pairs(self, tombstones: Tombstones) -> int:
        """How many that was."""
        ...

    def left(self, tombstones: Tombstones, pairs: Collection[str]) -> int:
        """Pairs and labels that should be gone, and are not."""
        ...


class InStreams:
    """In Redis, dead letters included: what nobody can read there is gone through for the subject's name."""

    name = "Redis"

    def __init__(self, client: redis.Redis, shards: int, subject: Subject) -> None:
        self._client = client
        self._shards = range(shards)
        self._subject = subject
        self._names = _names(subject)

    def pairs(self, tombstones: Tombstones) -> set[str]:
        found = {
            said.id for _, _, data in self._entries(PAIRS) if tombstones.drops_record(data) and (said := who(data))
        }
        return found | {pair for _, _, data in self._entries((DEAD,)) if (pair := self._dead_pair(data, tombstones))}

    def erase_labels(self, tombstones: Tombstones, pairs: Collection[str]) -> int:
        letters = self._erase((DEAD,), lambda data: self._dead_label_goes(data, tombstones, pairs))
        return letters + self._erase((LABELS,), lambda data: _label_goes(data, tombstones, pairs))

    def erase_pairs(self, tombstones: Tombstones) -> int:
        letters = self._erase((DEAD,), lambda data: self._letter_goes(data, tombstones))
        return letters + self._erase(PAIRS, tombstones.drops_record)

    def left(self, tombstones: Tombstones, pairs: Collection[str]) -> int:
        labels = sum(_label_goes(data, tombstones, pairs) for _, _, data in self._entries((LABELS,)))
        letters = sum(
            self._letter_goes(data, tombstones) or self._dead_label_goes(data, tombstones, pairs)
            for _, _, data in self._entries((DEAD,))
        )
        alive = sum(tombstones.drops_record(data) for _, _, data in self._entries(PAIRS))
        return labels + letters + alive

    def _letter_goes(self, data: bytes, tombstones: Tombstones) -> bool:
        """Whether the dead record, of whatever stream and version, was said by the erased, or names the subject. A time
        that cannot be counts as the time at which the record was buried."""
        letter = _letter(data)
        if letter is None:
            return False
        known = who(letter.record.encode("utf-8", "surrogatepass"))
        named = self._names.search(letter.record) is not None
        if known is None:
            return named
        at = min(known.time, letter.time)
        return tombstones.drops(known.key, known.users, at) or (named and tombstones.cover(self._subject, at))

    def _dead_label_goes(self, data: bytes, tombstones: Tombstones, pairs: Collection[str]) -> bool:
        """Also what was said of an erased pair. Of a label that is torn its text has to tell."""
        letter = _letter(data)
        if letter is None or letter.stream != LABELS:
            return False
        known = who(letter.record.encode("utf-8", "surrogatepass"))
        if known is None:
            return self._names.search(letter.record) is not None or any(pair in letter.record for pair in pairs)
        return known.id in pairs or self._letter_goes(data, tombstones)

    def _dead_pair(self, data: bytes, tombstones: Tombstones) -> str:
        """The id of a dead pair that goes; '' for every other letter."""
        letter = _letter(data)
        if letter is None or letter.stream not in PAIRS or not self._letter_goes(data, tombstones):
            return ""
        known = who(letter.record.encode("utf-8", "surrogatepass"))
        return known.id if known else ""

    def _erase(self, streams: Collection[str], goes: Callable[[bytes], bool]) -> int:
        count = 0
        for key, entry_id, data in self._entries(streams):
            if goes(data):
                try:
                    count += self._client.xdel(key, entry_id)
                except Unreachable as error:
                    raise ConfigError(f"redis: no answer: {error}") from error
        return count

    def _entries(self, streams: Collection[str]) -> Iterator[tuple[str, bytes, bytes]]:
        """Key, entry id and record of each."""
        for key in (shard_key(shard, stream) for shard in self._shards for stream in streams):
            start = "-"
            while page := self._page(key, start):
                yield from ((key, entry_id, fields.get(b"r", b"")) for entry_id, fields in page)
                start = f"({page[-1][0].decode()}"

    def _page(self, key: str, start: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        try:
            return cast(Any, self._client.xrange(key, start, "+", count=PAGE))  # type: ignore[no-any-return]
        except Unreachable as error:
            raise ConfigError(f"redis: no answer: {error}") from error


class InSpool:
    """In the logs of gateways that have ended. Those of running ones are theirs: they can only be waited for."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.name = f"the spool in {folder}"
        self._spool = Spool(folder, max_bytes)

    def pairs(self, tombstones: Tombstones) -> set[str]:
        found = (who(data) for data in self._records(PAIRS) if tombstones.drops_record(data))
        return {said.id for said in found if said}

    def erase_labels(self, tombstones: Tombstones, pairs: Collection[str]) -> int:
        return self._erase((LABELS,), lambda data: _label_goes(data, tombstones, pairs))

    def erase_pairs(self, tombstones: Tombstones) -> int:
        return self._erase(PAIRS, tombstones.drops_record)

    def left(self, tombstones: Tombstones, pairs: Collection[str]) -> int:
        labels = sum(_label_goes(data, tombstones, pairs) for data in self._records((LABELS,)))
        return labels + sum(tombstones.drops_record(data) for data in self._records(PAIRS))

    def _records(self, streams: Collection[str]) -> Iterator[bytes]:
        for stream in streams:
            yield from read_spool(self._spool.path, stream)

    def _erase(self, streams: Collection[str], goes: Callable[[bytes], bool]) -> int:
        try:
            return sum(self._erase_log(producer, streams, goes) for producer in sorted(self._spool.producers()))
        except OSError as error:
            raise ConfigError(f"{self.name}: {error}") from error

    def _erase_log(self, producer: str, streams: Collection[str], goes: Callable[[bytes], bool]) -> int:
        log = Log.take(self._spool, producer)
        if log is None:
            return 0
        try:
            return sum(_erase_segment(segment.path, streams, goes) for segment in log.segments)
        finally:
            log.close()


def _erase_segment(path: Path, streams: Collection[str], goes: Callable[[bytes], bool]) -> int:
    fresh = path.with_suffix(ERASING)
    frames = list(decode_frames(path.read_bytes()))
    kept = [_without(frame, streams, goes) for frame in frames]
    count = sum(len(frame.records.get(ERASED, ())) for frame in kept)
    count -= sum(len(frame.records.get(ERASED, ())) for frame in frames)
    if count:
        with create_private(fresh) as file:
            write_all(file, encode_frames(kept))
        fresh.replace(path)
    return count


def _without(frame: Frame, streams: Collection[str], goes: Callable[[bytes], bool]) -> Frame:
    records = {
        stream: [data for data in some if stream not in streams or not goes(data)]
        for stream, some in frame.records.items()
    }
    count = frame.count - sum(map(len, records.values()))
    if not count:
        return frame
    records[ERASED] = [*records.get(ERASED, ()), *[b""] * count]
    return msgspec.structs.replace(frame, records=records)


def _label_goes(data: bytes, tombstones: Tombstones, pairs: Collection[str]) -> bool:
    said = who(data)
    return said is not None and (said.id in pairs or tombstones.drops(said.key, said.users, said.time))


class Letter(msgspec.Struct):
    """See `router.evidence.archive.group.Group.bury`."""

    stream: str
    time: float
    record: str


_letters = msgspec.json.Decoder(Letter)


def _letter(data: bytes) -> Letter | None:
    """None for what is no letter of ours, which tells of nobody."""
    try:
        return _letters.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _names(subject: Subject) -> re.Pattern[str]:
    """How a record's JSON, also a torn one, names the subject."""
    forms = {json.dumps(subject.name, ensure_ascii=False), json.dumps(subject.name)}
    name = f"(?:{'|'.join(re.escape(form) for form in sorted(forms))})"
    if subject.kind == "key":
        return re.compile(rf'"key"\s*:\s*{name}')
    fields = "|".join(USER_FIELDS)
    return re.compile(rf'"users"\s*:\s*\[(?:\s*"(?:[^"\\]|\\.)*"\s*,)*\s*{name}|"(?:{fields})"\s*:\s*{name}')
