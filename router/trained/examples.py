"""Pair records as examples to learn from: the same view of a request as live, and what serving the student lost.

The teacher is the reference, so that only the harm is known. What nobody could decide is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heappush, heappushpop

from policies.learn.example import Example
from router.evidence.records import PairRecord
from router.evidence.triage import UNDECIDED
from router.gate.seen import recorded
from router.lossmap.outcome import is_loss
from router.prompt import opening_text, query_of, said_of
from router.settings import Settings
from router.upstream.model import model_version

MOST_EXAMPLES = 20_000  # the newest: all of them are in memory while a policy learns
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
    """`examples`, oldest first. `left_out`: how many pairs were not used, by reason. `models`: the versions of each
    arm's model, `teacher` and `student`, that they are of; empty where that is not known."""

    examples: list[Example]
    left_out: Mapping[str, int]
    models: Mapping[str, list[str]] = field(default_factory=dict)

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
    """The newest examples in a route's pairs, each pair once. For the kind `cascade` the student's answer must be
    there."""
    left_out: Counter[str] = Counter()
    newest, seen, teachers = list[tuple[float, str, Example]](), set[str](), set[str]()
    for pair in pairs:
        if pair.route != served.route or pair.id in seen:
            continue
        seen.add(pair.id)
        reason = unusable(pair, served) or _unseen(pair, kind)
        if reason:
            left_out[reason] += 1
            continue
        teachers.add(pair.teacher_version)
        moment = pair.time, pair.id, example_of(pair)
        if len(newest) < MOST_EXAMPLES:
            heappush(newest, moment)
        else:
            heappushpop(newest, moment)
            left_out[f"older than the newest {MOST_EXAMPLES:,}"] += 1
    models = {"teacher": sorted(teachers), "student": [served.student_version]}
    return Collected([example for *_, example in sorted(newest)], dict(left_out.most_common()), models)


def says_nothing(pair: PairRecord, served: Served) -> str | None:
    """Why a pair of the route is no draw from the traffic of these models; None: it is."""
    if (pair.teacher.model, pair.student.model) != (served.teacher, served.student):
        return "other models"
    if pair.student_version != served.student_version:
        return "other versions of the student"
    if pair.teacher.error is not None:
        return "teacher failed"
    if pair.audit_probability <= 0:
        return "targeted while audit.rate was 0"
    return None if 0 < pair.probability <= 1 else "no probability"


def unusable(pair: PairRecord, served: Served) -> str | None:
    """Why a pair of the route teaches nothing; None: it does."""
    reason = says_nothing(pair, served)
    if reason is not None:
        return reason
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
        query=query_of(
            pair.request, pair.endpoint, needs=pair.needs, tenant=pair.tenant, key=pair.key, route=pair.route
        ),
        harm=float(is_loss(pair)),
        weight=1 / pair.probability,
        group=conversation_of(pair),
        time=pair.time,
        answer=None if pair.student.error is not None else recorded(pair.student),
    )


def conversation_of(pair: PairRecord) -> str:
    """Hex digits over the tenant and what was said up to the first message of the user: equal for all turns."""
    first = opening_text(said_of(pair.request, pair.endpoint)) or pair.id
    return blake2b(f"{pair.tenant}\0{first}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _unseen(pair: PairRecord, kind: str) -> str | None:
    return "the student failed" if kind == "cascade" and pair.student.error is not None else None
