"""The labelled pairs of this folder, and how well a comparator's harm flag agrees with their labels.

See README.md for where the pairs come from, and for what the two halves are: comparators are mended by the pairs of the
development half, and judged by those of the held-out half. Nothing here knows how a comparator decides.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from policies.bounds import Interval, clopper_pearson
from router.evidence.compare import Answer, JudgeUnavailable, Services, Verdict
from router.evidence.compare.registry import Comparators

FOLDER = Path(__file__).parent
OUTCOMES = ("refusal", "truncated", "empty", "error")
KINDS = ("label", "number", "json", "tool_calls", "code", "prose", *OUTCOMES)
DELTA = 0.05
Half = Literal["development", "held-out", "all"]
HALVES: tuple[Half, ...] = ("development", "held-out", "all")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one request; `harm`: getting the student's in place of the teacher's would have been a loss."""

    id: str
    kind: str
    request: Mapping[str, Any]
    teacher: Mapping[str, Any]
    student: Mapping[str, Any]
    harm: bool
    why: str

    @property
    def half(self) -> Half:
        """By a fixed hash of the id, so that nobody chose it."""
        return "held-out" if crc32(self.id.encode()) % 2 else "development"


@dataclass(frozen=True, slots=True)
class Judged:
    pair: Pair
    verdict: Verdict

    @property
    def wrong(self) -> bool:
        return self.pair.harm != self.verdict.harm


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of the harm flag against the labels: `hits` flagged and harmful, `missed` harmful, not flagged."""

    pairs: int
    harmful: int
    flagged: int
    hits: int
    decided_by: Mapping[str, int]

    @property
    def missed(self) -> int:
        return self.harmful - self.hits

    @property
    def false_alarms(self) -> int:
        return self.flagged - self.hits

    @property
    def precision(self) -> float | None:
        """The share of flagged pairs that are harmful; None where nothing was flagged."""
        return self.hits / self.flagged if self.flagged else None

    @property
    def recall(self) -> float | None:
        """The share of harmful pairs that are flagged; None where none is harmful."""
        return self.hits / self.harmful if self.harmful else None

    @property
    def precision_interval(self) -> Interval:
        return clopper_pearson(self.hits, self.flagged, DELTA)

    @property
    def recall_interval(self) -> Interval:
        return clopper_pearson(self.hits, self.harmful, DELTA)


def load(kind: str, half: Half = "all") -> list[Pair]:
    """The pairs of one kind in the order of the file. Raises TypeError where a field is missing or unknown."""
    lines = (FOLDER / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [Pair(**json.loads(line)) for line in lines]
    return [pair for pair in pairs if half in ("all", pair.half)]


async def judge(pairs: Iterable[Pair], comparator: str = "auto") -> list[Judged]:
    """Every pair compared by the built-in `comparator`, with no judge model to be asked."""
    comparators, services = Comparators(), Services(_no_judge)
    return [
        Judged(
            pair,
            await comparators.compare(comparator, pair.request, _answer(pair.teacher), _answer(pair.student), services),
        )
        for pair in pairs
    ]


def figures(judged: Sequence[Judged]) -> Figures:
    return Figures(
        pairs=len(judged),
        harmful=sum(each.pair.harm for each in judged),
        flagged=sum(each.verdict.harm for each in judged),
        hits=sum(each.pair.harm and each.verdict.harm for each in judged),
        decided_by=dict(Counter(each.verdict.comparator for each in judged).most_common()),
    )


def _answer(choice: Mapping[str, Any]) -> Answer:
    error = choice.get("error")
    return Answer.from_choice(choice) if error is None else Answer.failed(error)


async def _no_judge(model: str, messages: list[dict[str, str]], max_tokens: int) -> str:
    raise JudgeUnavailable("the pairs are compared without a judge")
