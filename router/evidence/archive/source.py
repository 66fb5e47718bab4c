"""Evidence wherever it is: Redis, the spool and any number of archives, read as one. Blocking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from router.errors import ConfigError
from router.evidence.erasure import Tombstones, load_tombstones
from router.evidence.read import Evidence
from router.evidence.records import LabelRecord, PairRecord, Triage
from router.record.row import DecisionRow
from router.settings import Settings


class Source(Protocol):
    """Something that evidence is read from. `since` (Unix time) leaves out what was before, at least about."""

    def pairs(self, *, agreements: bool = True, since: float = 0.0) -> Iterator[PairRecord]: ...
    def rows(self, since: float = 0.0) -> Iterator[DecisionRow]: ...
    def labels(self) -> Iterator[LabelRecord]: ...


def sources(settings: Settings, archives: Sequence[str]) -> Source:
    """What the gateway with these settings wrote and these archives hold.

    Each record comes once, none that was erased comes, and a pair carries what a person said of it. Raises ConfigError
    for an archive that cannot be read, also for want of an extra; and, when it is read, where Redis does not answer.
    """
    tombstones = load_tombstones(settings)
    opened: list[Source] = []
    for url in archives:
        archive, known = _opened(url)
        opened.append(archive)
        tombstones = tombstones.joined(known)
    return Merged([*opened, Evidence(settings)], tombstones)


def labelled(pairs: Iterable[PairRecord], labels: Iterable[LabelRecord]) -> Iterator[PairRecord]:
    """The pairs, with the latest label in the place of what was concluded without a person."""
    latest: dict[str, LabelRecord] = {}
    for label in labels:
        if label.id not in latest or latest[label.id].time <= label.time:
            latest[label.id] = label
    for pair in pairs:
        said = latest.get(pair.id)
        yield pair.model_copy(update={"triage": Triage(label=said.label, basis="human")}) if said else pair


class Merged:
    """Several sources as one: the first that has a record gives it. It remembers the ids, about 100 bytes each."""

    def __init__(self, parts: Sequence[Source], tombstones: Tombstones) -> None:
        self._parts = parts
        self._tombstones = tombstones

    def pairs(self, *, agreements: bool = True, since: float = 0.0) -> Iterator[PairRecord]:
        """With labels applied."""
        return labelled(self._pairs(agreements, since), self.labels())

    def rows(self, since: float = 0.0) -> Iterator[DecisionRow]:
        seen: set[str] = set()
        for part in self._parts:
            for row in part.rows(since):
                if row.t >= since and row.id not in seen:
                    seen.add(row.id)
                    yield row

    def labels(self) -> Iterator[LabelRecord]:
        seen: set[tuple[str, float, str]] = set()
        for part in self._parts:
            for label in part.labels():
                name = (label.id, label.time, label.by)
                if name not in seen and not self._tombstones.drops(label.key, (), label.time):
                    seen.add(name)
                    yield label

    def _pairs(self, agreements: bool, since: float) -> Iterator[PairRecord]:
        seen: set[str] = set()
        for part in self._parts:
            for pair in part.pairs(agreements=agreements, since=since):
                if pair.time < since or pair.id in seen or self._tombstones.drops(pair.key, pair.users, pair.time):
                    continue
                seen.add(pair.id)
                yield pair


def _opened(url: str) -> tuple[Source, Tombstones]:
    try:
        from router.evidence.archive.archive import Archive
    except ImportError as error:
        raise ConfigError(
            f"archive {url}: {error.name} is missing; the extra `archive` brings it: "
            "pip install 'distill-router[archive]'"
        ) from None
    archive = Archive(url)
    return archive, archive.tombstones()
