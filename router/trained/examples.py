"""Pair records as examples to learn from: the same view of a request as live, and what serving the student lost.

The teacher is the reference, so that only the harm is known. What nobody could decide is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from policies.learn.example import Example
from router.evidence.records import PairRecord
from router.evidence.triage import UNDECIDED
from router.gate.seen import recorded
from router.lossmap.outcome import is_loss
from router.prompt import opening_text, query_of
from router.settings import Settings
from router.upstream.model import model_version

HELD_BACK = "test"  # the split that no policy learns from, so that replays have pairs that none has seen


@dataclass(frozen=True, slots=True)
class Served:
    """Whom a route's policy chooses between. Pairs of other models, or of another student version, teach little."""

    route: str
    teacher: str
    student: str
    student_version: str


@dataclass(frozen=True, slots=True)
class Collected:
    """`examples`, oldest first. `left_out`: how many pairs were not used, by reason."""

    examples: list[Example]
    left_out: Mapping[str, int]

    @property
    def until(self) -> float:
        """The time of the latest example; 0 without one."""
        return max((example.time for example in self.examples), default=0.0)


def served_on(settings: Settings, route: str) -> Served:
    """What the configuration says of a route. KeyError for an unknown one."""
    config = settings.config.routes[route]
    version = model_version(config.student, settings.config.models[config.student])
    return Served(route, config.teacher, config.student, version)


def collect(pairs: Iterable[PairRecord], served: Served, kind: str) -> Collected:
    """The examples in a route's pairs, each pair once. For the kind `cascade` the student's answer must be there."""
    left_out: Counter[str] = Counter()
    used, seen = [], set[str]()
    for pair in pairs:
        if pair.route != served.route or pair.id in seen:
            continue
        seen.add(pair.id)
        reason = unusable(pair, served) or _unseen(pair, kind)
        if reason:
            left_out[reason] += 1
        else:
            used.append(example_of(pair))
    return Collected(sorted(used, key=_moment), dict(left_out.most_common()))


def unusable(pair: PairRecord, served: Served) -> str | None:
    """Why a pair of the route teaches nothing; None: it does."""
    if (pair.teacher.model, pair.student.model) != (served.teacher, served.student):
        return "other models"
    if pair.student_version != served.student_version:
        return "other versions of the student"
    if pair.teacher.error is not None:
        return "teacher failed"
    if pair.audit_probability <= 0:
        return "targeted while audit.rate was 0"
    if is_undecided(pair):
        return "undecided"
    return "held back" if pair.split == HELD_BACK else None


def is_undecided(pair: PairRecord) -> bool:
    """Nobody could say whether the student's answer does harm.

    A harmful difference of which only the two answers are known counts as the teacher says; one of which more was
    asked (a second draw, a check, a judge, a person) without an answer does not count.
    """
    told = pair.triage
    if told is not None and told.basis == "human":
        return told.label == "ambiguous"
    if pair.verdict.kind in UNDECIDED:
        return True
    return told is not None and told.label == "ambiguous" and told.basis != "none"


def example_of(pair: PairRecord) -> Example:
    """The harm is the verdict's, unless triage or a person took it back."""
    return Example(
        id=pair.id,
        query=query_of(pair.request, needs=pair.needs, tenant=pair.tenant, key=pair.key, route=pair.route),
        harm=float(is_loss(pair)),
        weight=1 / pair.probability,
        group=conversation_of(pair),
        time=pair.time,
        answer=None if pair.student.error is not None else recorded(pair.student),
    )


def conversation_of(pair: PairRecord) -> str:
    """Hex digits over the tenant and what was said up to the first message of the user: equal for all turns."""
    said = pair.request.get("messages") or pair.request.get("prompt") or pair.request.get("input")
    first = opening_text(said) or pair.id
    return blake2b(f"{pair.tenant}\0{first}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _unseen(pair: PairRecord, kind: str) -> str | None:
    return "the student failed" if kind == "cascade" and pair.student.error is not None else None


def _moment(example: Example) -> tuple[float, str]:
    return example.time, example.id
