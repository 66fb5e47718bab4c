"""What a student loses, live: sums that a worker keeps per request, and the figures that they amount to.

Two sequences share one population, the requests of a route that count (not forced, not no-store):

- loss: Y = 1 where the student was served and its answer was harmful; looked at where the pair was in the sample.
- noise: Y = 1 where a second teacher's answer would have been harmful beside the first, on the same student-served
  requests; looked at where the second draw was made. Its probability is the pair's times the share of second draws.

`route_loss` divides the loss by all requests, `student_retention` by those that the student served: both counts are
known, so both intervals are that of the total in `policies/confidence.py`, which says why it holds at every look. The
normalised retention is the share kept by the student over the share that the teacher keeps against itself, at most 1:
what both intervals at half the error allow.

Kept apart per day of the draw, route, student version and slice by whoever holds the trackers; sums of any of them add
up. A request belongs in one tracker; a slice is the sum of its trackers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from policies.bounds import MOST_PAIRS, Interval
from policies.confidence import LEVELS, UNSEEN, WEIGHTS, Floats, Row, level_of, total_interval, weight_of

TOTALS: Final = ("requests", "failed", "weights_squared")
_ROWS: Final = {row.name.lower(): row for row in Row}


def _no_levels() -> Floats:
    return np.zeros((len(Row), LEVELS))


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """All that the figures need of one sequence. `levels` has the shape (len(Row), LEVELS)."""

    levels: Floats = field(default_factory=_no_levels)
    requests: float = 0.0
    failed: float = 0.0  # draws that will never have a result; pending ones are the rest of those without
    weights_squared: float = 0.0  # of pairs with a result

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.levels + other.levels,
            self.requests + other.requests,
            self.failed + other.failed,
            self.weights_squared + other.weights_squared,
        )

    def total(self, row: Row) -> float:
        return float(self.levels[row].sum())

    def to_fields(self) -> dict[str, float]:
        """What is not zero, as `<level>|<what>`; the level is a number, `unseen`, or `all` for the totals."""
        fields = {f"all|{name}": float(getattr(self, name)) for name in TOTALS if getattr(self, name)}
        for what, row in _ROWS.items():
            for level in np.flatnonzero(self.levels[row]):
                name = "unseen" if level == UNSEEN else str(level)
                fields[f"{name}|{what}"] = float(self.levels[row, level])
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[str, float]) -> Sums:
        """Raises ValueError on a field that `to_fields` does not write."""
        levels, totals = _no_levels(), dict.fromkeys(TOTALS, 0.0)
        for name, value in fields.items():
            level, _, what = name.partition("|")
            if level == "all" and what in totals:
                totals[what] = float(value)
            elif what in _ROWS and (level == "unseen" or (level.isdecimal() and int(level) < UNSEEN)):
                levels[_ROWS[what], UNSEEN if level == "unseen" else int(level)] = value
            else:
                raise ValueError(f"{name!r} is no sum of a retention sequence")
        return cls(levels, **totals)


class Tracker:
    """One sequence in one worker. Give the probability of the same request to all its calls.

    `seen` and `drawn` of a request belong together, without a `take` between them; a result may come at any time later,
    to the tracker that saw the draw. Requests that the student did not serve are not drawn.
    """

    __slots__ = ("_failed", "_level", "_probability", "_requests", "_rows", "_served", "_weights_squared")

    def __init__(self) -> None:
        self._probability, self._level = 1.0, 0
        self._reset()

    def _reset(self) -> None:
        self._requests = 0
        self._failed = 0
        self._weights_squared = 0.0
        self._rows = [[0.0] * LEVELS for _ in Row]
        self._served = self._rows[Row.SERVED]

    def seen(self, probability: float, served: bool) -> None:
        """One request that counts; `probability` with which it is looked at (not read unless the student served).

        On the path of every request. Raises ValueError unless the probability is in [0, 1].
        """
        if served:
            if probability != self._probability:
                self._level = level_of(probability)
                self._probability = probability
            self._served[self._level] += 1.0
        self._requests += 1

    def drawn(self, probability: float) -> None:
        """The request just seen is looked at. Raises ValueError unless the probability is in (0, 1]."""
        level, weight = _drawable(probability)
        self._rows[Row.DRAWN][level] += 1.0
        self._rows[Row.DRAWN_WEIGHT][level] += weight

    def resolved(self, probability: float, loss: float) -> None:
        """A draw has its result: 1 harmful, 0 not, or a share. Raises ValueError outside [0, 1]."""
        if not 0.0 <= loss <= 1.0:
            raise ValueError(f"a loss of {loss} is not in [0, 1]")
        level, weight = _drawable(probability)
        self._rows[Row.PAIRS][level] += 1.0
        self._rows[Row.PAIRS_WEIGHT][level] += weight
        self._rows[Row.HARMFUL][level] += loss
        self._rows[Row.HARMFUL_WEIGHT][level] += loss * weight
        self._weights_squared += weight * weight

    def failed(self) -> None:
        """A draw will never have a result. The bounds count it as harmful and as harmless, as they do a pending one."""
        self._failed += 1

    def take(self) -> Sums:
        """What has come since the last `take`. Sums of resolutions may come in a later one than their draws."""
        sums = Sums(np.array(self._rows), float(self._requests), float(self._failed), self._weights_squared)
        self._reset()
        return sums


def _drawable(probability: float) -> tuple[int, float]:
    if probability <= 0.0:
        raise ValueError(f"a request with the sampling probability {probability} cannot have been drawn")
    return level_of(probability), weight_of(probability)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of requests: two estimates from the pairs, and the interval that holds at every look.

    `estimate` is self-normalised (SNIPS, Hájek): as if draws without a result and requests that nobody could look at
    were like the others; None without a pair. `horvitz_thompson` is what was seen, weighted: as if they were harmless.
    The interval assumes neither.
    """

    estimate: float | None
    horvitz_thompson: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one route, or a slice of it, and one student version. None where there is nothing to divide by."""

    requests: int
    served: int  # by the student
    pairs: int
    unresolved: int  # drawn, without a result so far
    failed: int  # of these, those that will never have one
    effective_pairs: float  # Kish (1965): equally weighted pairs that would say as much
    noise_pairs: int
    enough: bool  # pairs for a figure to be worth reading
    route_loss: Rate | None
    student_retention: Rate | None
    teacher_noise: Rate | None
    normalised_retention: Rate | None


def figures(loss: Sums, noise: Sums, *, confidence: float, min_pairs: int) -> Figures:
    """Each interval is wrong at some look with a probability of at most 1 - `confidence`.

    The loss's interval serves `route_loss` and `student_retention`. The normalised retention takes both sequences at
    half the error each, and needs second draws, as `teacher_noise` does.
    """
    delta = 1.0 - confidence
    low, high = total_interval(
        np.stack([loss.levels, noise.levels, loss.levels, noise.levels]), np.array([delta, delta, delta / 2, delta / 2])
    )
    lost, noisy, lost_half, noisy_half = (
        _rate(sums, Interval(float(low[i]), float(high[i]))) for i, sums in enumerate((loss, noise, loss, noise))
    )
    pairs, noise_pairs = loss.total(Row.PAIRS), noise.total(Row.PAIRS)
    return Figures(
        requests=round(loss.requests),
        served=round(loss.total(Row.SERVED)),
        pairs=round(pairs),
        unresolved=round(loss.total(Row.DRAWN) - pairs),
        failed=round(loss.failed),
        effective_pairs=loss.total(Row.PAIRS_WEIGHT) ** 2 / loss.weights_squared if loss.weights_squared > 0 else 0.0,
        noise_pairs=round(noise_pairs),
        enough=pairs >= min_pairs,
        route_loss=_route_loss(loss, lost),
        student_retention=_rest(lost) if lost else None,
        teacher_noise=noisy if noise_pairs else None,
        normalised_retention=_normalised(_rest(lost_half), _rest(noisy_half))
        if lost_half and noisy_half and noise_pairs
        else None,
    )


def pairs_needed(loss: Sums, half_width: float, confidence: float) -> int | None:
    """More pairs until the interval of `student_retention` is ± `half_width`, if the traffic goes on as it was.

    A projection: requests, losses and failures grow in proportion, loss rates drawn a little to the middle. None
    without traffic, and where no number up to `MOST_PAIRS` helps: too many draws fail, or too much is never looked at.
    """
    served = loss.total(Row.SERVED)
    if served <= 0:
        return None
    later = _as_it_was(loss)
    low, high = 0.0, MOST_PAIRS / max(later.total(Row.PAIRS), 1e-9)
    for _ in range(3):
        growths = np.geomspace(max(low, high * 1e-7), high, 48)
        least, most = total_interval(later.levels * growths[:, None, None], 1.0 - confidence)
        narrow = np.flatnonzero((most - least) / (2 * served * growths) <= half_width)
        if len(narrow) == 0:
            return None
        high = float(growths[narrow[0]])
        low = float(growths[max(narrow[0] - 1, 0)])
    return max(0, math.ceil(high * later.total(Row.PAIRS) - loss.total(Row.PAIRS)))


def _rate(sums: Sums, total: Interval) -> Rate | None:
    served, weight = sums.total(Row.SERVED), sums.total(Row.PAIRS_WEIGHT)
    if served <= 0:
        return None
    harmful = sums.total(Row.HARMFUL_WEIGHT)
    return Rate(
        harmful / weight if weight > 0 else None,
        min(1.0, harmful / served),
        Interval(total.low / served, total.high / served),
    )


def _route_loss(loss: Sums, lost: Rate | None) -> Rate | None:
    if loss.requests <= 0:
        return None
    if lost is None:
        return Rate(0.0, 0.0, Interval(0.0, 0.0))
    share = loss.total(Row.SERVED) / loss.requests
    return Rate(
        None if lost.estimate is None else lost.estimate * share,
        lost.horvitz_thompson * share,
        Interval(lost.interval.low * share, lost.interval.high * share),
    )


def _rest(rate: Rate) -> Rate:
    """Of what is not lost."""
    return Rate(
        None if rate.estimate is None else 1.0 - rate.estimate,
        1.0 - rate.horvitz_thompson,
        Interval(1.0 - rate.interval.high, 1.0 - rate.interval.low),
    )


def _normalised(kept: Rate, agreed: Rate) -> Rate:
    """Both intervals hold together, and the ratio rises in the one and falls in the other."""
    return Rate(
        None if kept.estimate is None or agreed.estimate is None else _ratio(kept.estimate, agreed.estimate),
        _ratio(kept.horvitz_thompson, agreed.horvitz_thompson),
        Interval(
            _ratio(kept.interval.low, agreed.interval.high),
            _ratio(kept.interval.high, agreed.interval.low),
        ),
    )


def _ratio(kept: float, agreed: float) -> float:
    """At most 1: a student that agrees with the teacher more often than the teacher itself has lost nothing."""
    return 1.0 if kept >= agreed else kept / agreed


def _as_it_was(loss: Sums) -> Sums:
    """The sums that the same traffic brings on average, every probability as seen so far, pending draws resolved."""
    served, drawn = loss.levels[Row.SERVED], loss.levels[Row.DRAWN]
    weights = np.append(WEIGHTS, 0.0)
    mean_weights = np.divide(loss.levels[Row.DRAWN_WEIGHT], drawn, out=weights.copy(), where=drawn > 0)
    mean_weights[UNSEEN] = np.inf
    seen_weight = loss.total(Row.PAIRS_WEIGHT)
    one = seen_weight / max(loss.total(Row.PAIRS), 1.0) if seen_weight > 0 else 1.0
    overall = (loss.total(Row.HARMFUL_WEIGHT) + one / 2) / (seen_weight + one)
    finite = np.where(np.isfinite(mean_weights), mean_weights, 1.0)
    rates = (loss.levels[Row.HARMFUL_WEIGHT] + overall * finite) / (loss.levels[Row.PAIRS_WEIGHT] + finite)
    answered = 1.0 - loss.failed / max(drawn.sum(), 1.0)
    draws = served / mean_weights
    levels = _no_levels()
    levels[Row.SERVED] = served
    levels[Row.DRAWN], levels[Row.DRAWN_WEIGHT] = draws, np.where(draws > 0, served, 0.0)
    levels[Row.PAIRS], levels[Row.PAIRS_WEIGHT] = draws * answered, levels[Row.DRAWN_WEIGHT] * answered
    levels[Row.HARMFUL], levels[Row.HARMFUL_WEIGHT] = levels[Row.PAIRS] * rates, levels[Row.PAIRS_WEIGHT] * rates
    return Sums(levels, loss.requests)
