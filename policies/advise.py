"""What routing would save at which loss, from pairs in which the student's answer was seen beside the teacher's.

The statement behind a cascade's threshold is that the route loss (the share of all traffic that the student answers
and answers harmfully) is at most `max_loss`, with the confidence asked for. Thresholds are tested in a fixed order from
the safest down, and the first that fails ends the search: fixed-sequence testing of Learn then Test (Angelopoulos et
al. 2021, arXiv:2110.01052), which needs no union bound. As the loss only grows on the way down, testing at the scores
seen is testing everywhere (Bates et al. 2021, JACM 68(6)). Each row of the frontier holds with that confidence by
itself; the rows do not hold jointly, nor do the cascade and the split: decide on one before looking.

It does not know drift, nor the cost of audits; nothing is said that the pairs do not support.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from policies.bounds import (
    Floats,
    Interval,
    certifies,
    effective_sample_size,
    pairs_needed,
    self_normalised,
    weighted_rate,
    weighted_upper,
)

FRONTIER = (0.01, 0.02, 0.05, 0.10)


@dataclass(frozen=True, slots=True)
class Pair:
    """One request answered by both. `score` is None where the student's answer has none; costs are of this request."""

    score: float | None
    harmful: bool
    probability: float
    teacher_cost_usd: float
    student_cost_usd: float


@dataclass(frozen=True, slots=True)
class Point:
    """One operating point and what is known of it, as shares of all traffic and USD a day against teacher-only.

    `threshold`: the cascade accepts scores at or above it and escalates the rest, None for a split. A split's share is
    set, so its interval is a point. `loss_upper_bound` is certified and at most `max_loss`. Savings are signed; their
    interval is a normal approximation, as costs have no bound.
    """

    kind: Literal["cascade", "split"]
    max_loss: float
    threshold: float | None
    student_share: float
    student_share_interval: Interval
    loss_estimate: float
    loss_upper_bound: float
    savings_usd_per_day: float
    savings_interval_usd_per_day: Interval


@dataclass(frozen=True, slots=True)
class FrontierRow:
    """The point at `max_loss`, or None and about how many more pairs one needs (None: no number would help)."""

    max_loss: float
    point: Point | None
    pairs_needed: int | None


@dataclass(frozen=True, slots=True)
class Advice:
    """The answer to "what would routing save at a loss of at most `max_loss`".

    `recommended` is a cascade where at least half of the pairs have a score, else the split; None where the pairs do
    not support one, with the `reason` and `pairs_needed` (0 with a recommendation; None: no number would help).
    `split` is the alternative that needs no score.
    """

    max_loss: float
    confidence: float
    recommended: Point | None
    split: Point | None
    reason: str
    pairs_used: int
    effective_pairs: float
    pairs_needed: int | None
    frontier: tuple[FrontierRow, ...]


def advise(
    pairs: Sequence[Pair],
    requests_per_day: float,
    max_loss: float = 0.05,
    confidence: float = 0.95,
    smallest_probability: float | None = None,
) -> Advice:
    """The largest student share certified at `max_loss`, its cost, and the frontier at `FRONTIER`.

    `smallest_probability`: see `policies.bounds.weighted_upper`. Raises ValueError on figures out of range.
    """
    if not 0 < max_loss < 1 or not 0 < confidence < 1 or not requests_per_day >= 0:
        raise ValueError("max_loss and confidence lie between 0 and 1, requests_per_day is not negative")
    sample = _Sample.of(pairs, requests_per_day, 1 - confidence, smallest_probability)
    row = _row(sample, max_loss)
    return Advice(
        max_loss=max_loss,
        confidence=confidence,
        recommended=row.point,
        split=_split(sample, max_loss),
        reason="" if row.point else _reason(sample, row),
        pairs_used=len(pairs),
        effective_pairs=effective_sample_size(sample.probabilities),
        pairs_needed=row.pairs_needed,
        frontier=tuple(_row(sample, level) for level in FRONTIER),
    )


@dataclass(frozen=True, slots=True)
class _Sample:
    """The pairs as columns; a score that is missing or not finite is -inf, which no threshold accepts."""

    scores: Floats
    harmful: Floats
    probabilities: Floats
    teacher_cost_usd: Floats
    student_cost_usd: Floats
    requests_per_day: float
    delta: float
    smallest_probability: float | None

    @classmethod
    def of(
        cls, pairs: Sequence[Pair], requests_per_day: float, delta: float, smallest_probability: float | None
    ) -> _Sample:
        scores = [p.score if p.score is not None and math.isfinite(p.score) else -math.inf for p in pairs]
        return cls(
            scores=np.array(scores, dtype=np.float64),
            harmful=np.array([p.harmful for p in pairs], dtype=np.float64),
            probabilities=np.array([p.probability for p in pairs], dtype=np.float64),
            teacher_cost_usd=np.array([p.teacher_cost_usd for p in pairs], dtype=np.float64),
            student_cost_usd=np.array([p.student_cost_usd for p in pairs], dtype=np.float64),
            requests_per_day=requests_per_day,
            delta=delta,
            smallest_probability=smallest_probability,
        )

    def certifies(self, losses: Floats, max_loss: float) -> bool:
        return certifies(losses, self.probabilities, max_loss, self.delta, self.smallest_probability)

    def upper(self, losses: Floats) -> float:
        return weighted_upper(losses, self.probabilities, self.delta, self.smallest_probability)

    def supports(self, max_loss: float) -> bool:
        """Whether the pairs would do for `max_loss` if none of them were harmful; with fewer nothing is said."""
        return self.certifies(np.zeros_like(self.harmful), max_loss)

    def accepted(self, threshold: float) -> NDArray[np.bool_]:
        return self.scores >= threshold

    def scored_share(self) -> float:
        return float(np.isfinite(self.scores).mean()) if len(self.scores) else 0.0


def _row(sample: _Sample, max_loss: float) -> FrontierRow:
    by_score = len(sample.scores) > 0 and sample.scored_share() >= 0.5
    point = _cascade(sample, max_loss) if by_score else _split(sample, max_loss)
    return FrontierRow(max_loss, point, 0 if point else _pairs_needed(sample, max_loss))


def _cascade(sample: _Sample, max_loss: float) -> Point | None:
    levels = np.unique(sample.scores[np.isfinite(sample.scores)])[::-1]
    passed = _passing(sample, levels, max_loss)
    if passed == 0:
        return None
    threshold = float(levels[passed - 1])
    accepted = sample.accepted(threshold)
    losses = sample.harmful * accepted
    share = weighted_rate(accepted.astype(np.float64), sample.probabilities, sample.delta, sample.smallest_probability)
    savings, interval = _per_day(sample, sample.teacher_cost_usd * accepted - sample.student_cost_usd)
    # Only where nothing was left out is the bound at the threshold free of the choice that the data made.
    bound = sample.upper(losses) if passed == len(levels) else max_loss
    return Point(
        kind="cascade",
        max_loss=max_loss,
        threshold=threshold,
        student_share=share.estimate,
        student_share_interval=share.interval,
        loss_estimate=self_normalised(losses, sample.probabilities),
        loss_upper_bound=min(bound, max_loss),
        savings_usd_per_day=savings,
        savings_interval_usd_per_day=interval,
    )


def _passing(sample: _Sample, levels: Floats, max_loss: float) -> int:
    """How many thresholds pass before the first failure; found by bisection, as the evidence only falls on the way."""
    low, high = -1, len(levels)
    while high - low > 1:
        middle = (low + high) // 2
        if sample.certifies(sample.harmful * sample.accepted(float(levels[middle])), max_loss):
            low = middle
        else:
            high = middle
    return high


def _split(sample: _Sample, max_loss: float) -> Point | None:
    """A random share x loses x times the student's loss rate, so x = max_loss / (upper bound of that rate) at most."""
    if not sample.supports(max_loss):
        return None
    bound = sample.upper(sample.harmful)
    share = math.floor(min(1.0, max_loss / bound) * 10_000) / 10_000
    savings, interval = _per_day(sample, share * (sample.teacher_cost_usd - sample.student_cost_usd))
    return Point(
        kind="split",
        max_loss=max_loss,
        threshold=None,
        student_share=share,
        student_share_interval=Interval(share, share),
        loss_estimate=share * self_normalised(sample.harmful, sample.probabilities),
        loss_upper_bound=share * bound,
        savings_usd_per_day=savings,
        savings_interval_usd_per_day=interval,
    )


def _per_day(sample: _Sample, saved_usd: Floats) -> tuple[float, Interval]:
    """Mean saving times requests, with the linearised variance of Hájek's ratio (Särndal et al. 1992, section 5.7)."""
    weights = 1 / sample.probabilities
    mean = float(saved_usd @ weights / weights.sum())
    error = math.sqrt(float(np.sum((weights * (saved_usd - mean)) ** 2))) / float(weights.sum())
    half = NormalDist().inv_cdf(1 - sample.delta / 2) * error
    return mean * sample.requests_per_day, Interval(
        (mean - half) * sample.requests_per_day, (mean + half) * sample.requests_per_day
    )


def _pairs_needed(sample: _Sample, max_loss: float) -> int | None:
    """An estimate: with too few pairs, as if the missing ones had no loss; else at the loss of the best scores."""
    rate = 0.0
    if sample.supports(max_loss):
        best = sample.accepted(float(sample.scores.max()))
        rate = self_normalised(sample.harmful * best, sample.probabilities)
    total = pairs_needed(max_loss, sample.delta, rate)
    if total is None:
        return None
    weights = 1 / sample.probabilities
    spread = float(weights.max() / weights.mean()) if len(weights) else 1.0
    return max(1, math.ceil(total * spread) - len(weights))


def _reason(sample: _Sample, row: FrontierRow) -> str:
    if not sample.supports(row.max_loss):
        return f"{len(sample.scores)} pairs are too few to certify a loss of at most {row.max_loss:.1%}"
    if row.pairs_needed is None:
        return f"even the best-scored answers lose more than {row.max_loss:.1%} of all traffic"
    return f"the losses among the best-scored answers leave a loss of at most {row.max_loss:.1%} uncertified"
