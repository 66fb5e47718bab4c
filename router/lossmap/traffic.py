"""How much traffic the map stands for, a day, and what of it never goes to the student, by the decision rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from policies.guards import MISFITS
from router.evidence.records import PairRecord
from router.ledger.pricing import NANO_PER_USD
from router.record.row import DecisionRow

DAY_S = 86_400.0
FEWEST = 20  # requests; fewer do not say how many there are a day


@dataclass(frozen=True, slots=True)
class Misfit:
    """Requests that the student cannot be asked, by the guard that says so; what the teacher was paid for them."""

    guard: str
    requests_per_day: float
    teacher_usd_per_day: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """A route's requests a day, drawn out from `window_s`. `fitting`: those that the student could be asked.

    `rows`: how many there are. `by_pairs`: they are fewer than `FEWEST`, and the pairs' weights stand for them. `known`
    False: not even the pairs are that many, and all figures a day are 0. `unseen`: requests that may not be kept
    (no-store), which are in no figure.
    """

    fitting_per_day: float
    misfits: tuple[Misfit, ...]
    teacher_usd_per_day: float | None
    window_s: float
    rows: int
    unseen: int
    by_pairs: bool = False
    known: bool = True

    @property
    def requests_per_day(self) -> float:
        return self.fitting_per_day + sum(misfit.requests_per_day for misfit in self.misfits)


def traffic_of(rows: Iterable[DecisionRow], pairs: Sequence[PairRecord]) -> Traffic:
    """`rows`: of one route and time. Background calls, forced requests and those that nobody answered are no traffic.

    With hardly any rows the sum of the pairs' weights is an estimate of the requests.
    """
    answered = [row for row in rows if row.o != "shadow" and row.a and not row.fo]
    counted = [row for row in answered if not row.ns]
    if len(counted) < FEWEST:
        return _by_pairs(pairs, len(counted), len(answered) - len(counted))
    window_s = _span_s([row.t for row in counted])
    fitting = [row for row in counted if MISFITS.isdisjoint(row.g)]
    return Traffic(
        fitting_per_day=len(fitting) * DAY_S / window_s,
        misfits=_misfits(counted, DAY_S / window_s),
        teacher_usd_per_day=sum(_teacher_usd(row) for row in fitting) * DAY_S / window_s,
        window_s=window_s,
        rows=len(counted),
        unseen=len(answered) - len(counted),
    )


def _by_pairs(pairs: Sequence[PairRecord], rows: int, unseen: int) -> Traffic:
    if len(pairs) < FEWEST:
        return Traffic(0.0, (), None, 0.0, rows, unseen, by_pairs=True, known=False)
    window_s = _span_s([record.time for record in pairs])
    requests = sum(1 / record.probability for record in pairs)
    return Traffic(requests * DAY_S / window_s, (), None, window_s, rows, unseen, by_pairs=True)


def _misfits(rows: Sequence[DecisionRow], per_day: float) -> tuple[Misfit, ...]:
    by_guard: dict[str, list[DecisionRow]] = defaultdict(list)
    for row in rows:
        if guards := sorted(MISFITS.intersection(row.g)):
            by_guard[guards[0]].append(row)
    return tuple(
        Misfit(guard, len(found) * per_day, sum(_teacher_usd(row) for row in found) * per_day)
        for guard, found in sorted(by_guard.items())
    )


def _teacher_usd(row: DecisionRow) -> float:
    """What the answer cost that the client got, where it is the teacher's."""
    return sum(call.nano for call in row.ch if call.origin == "serve" and row.a == "t") / NANO_PER_USD


def _span_s(times: Sequence[float]) -> float:
    """How long so many requests take at their rate: n of them have n - 1 gaps between them, and one gap more."""
    return max((max(times) - min(times)) * len(times) / (len(times) - 1), 1.0)
