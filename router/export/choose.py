"""Which records an export asks for, and how many of each sort. Pure; what is left out is counted with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, get_args

from router.evidence.records import PairRecord, Split, TriageLabel
from router.export.example import Example, Verdict
from router.export.near_duplicates import clusters
from router.export.slices import kind_of

VERDICTS: tuple[Verdict, ...] = (*get_args(TriageLabel), "agree")


@dataclass(frozen=True, slots=True)
class Filters:
    """As the command's options say it. `since`: Unix time, 0 for all. `slices`: any of them, all where it is empty."""

    route: str | None = None
    split: Split | Literal["all"] = "train"
    since: float = 0.0
    slices: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ("student_wrong",)

    def refuses(self, record: PairRecord) -> str | None:
        """Why a record is not asked for; None where it is. Slices are not looked at."""
        if record.time < self.since:
            return "other_time"
        if self.route is not None and record.route != self.route:
            return "other_route"
        if self.split not in ("all", record.split):
            return "other_split"
        verdict = verdict_of(record)
        if verdict is None:
            return "no_verdict"
        return None if verdict in self.verdicts else f"verdict_{verdict}"


def verdict_of(record: PairRecord) -> Verdict | None:
    """What is known of whose mistake it is; None where the teacher failed and nobody said anything."""
    if record.triage is not None:
        return record.triage.label
    return "agree" if record.verdict.same and record.teacher.error is None else None


def group_of(example: Example, slices: frozenset[str], wanted: Sequence[str]) -> str:
    """What an example is counted as when sorts are balanced: the first of the slices asked for, else its kind."""
    return next((name for name in wanted if name in slices), kind_of(example.record))


def few_of_each_cluster(examples: Sequence[Example], most: int) -> list[bool]:
    """Which to keep so that no cluster has more than `most`: the newest, which met the latest student."""
    newest = sorted(range(len(examples)), key=lambda n: (examples[n].record.time, examples[n].record.id), reverse=True)
    leaders = clusters([examples[n].prompt for n in newest])
    kept = [False] * len(examples)
    sizes: Counter[int] = Counter()
    for place, leader in zip(newest, leaders, strict=True):
        sizes[leader] += 1
        kept[place] = sizes[leader] <= most
    return kept


def balanced(examples: Sequence[Example], groups: Sequence[str]) -> list[bool]:
    """Which to keep so that every group has as many as the smallest one: drawn by a hash of the id, always the same."""
    least = min(Counter(groups).values(), default=0)
    kept = [False] * len(examples)
    taken: Counter[str] = Counter()
    for place in sorted(range(len(examples)), key=lambda n: _draw(examples[n].record.id)):
        taken[groups[place]] += 1
        kept[place] = taken[groups[place]] <= least
    return kept


def _draw(record_id: str) -> bytes:
    return blake2b(record_id.encode(), digest_size=8, key=b"distill-router balance").digest()
