"""What each slice of a route's traffic loses, what it costs, and which slices lose more than the rest for certain.

The pairs are a sample with known inclusion probabilities; everything is weighted by their inverses (Hájek 1971).
Intervals of rates are Wilson's (1927) on an effective sample size, the smaller one of Kish's (1965) and of the one that
the linearised variance implies (Korn and Graubard 1998, Survey Methodology 24(2)): losses that sit on heavy pairs count
as the few observations that they are. Intervals of money are linearised ones.

Tests: Fisher's exact test of the slice against all other pairs, one-sided, on effective counts, rounded against the
slice; with equal probabilities it is the plain exact test. Slices overlap, and a slice and its rest depend on each
other negatively, which Benjamini and Hochberg (1995) do not cover; hence Benjamini and Yekutieli (2001, Ann. Stat.
29(4)), whose false discovery rate holds under any dependence, at the price of a factor of about log(slices).

Beside one slice that loses everything, a slice that loses a little looks good. So after a round of tests the clearest
slices named are taken out, and the others are tested on what is left, until a round names none. Round r has level/2^r:
together they spend less than the level. That what is left was chosen by the same losses is not in the theorem; a test
with simulated traffic looks at it.

It knows neither texts nor models, and no drift: a figure speaks of the traffic that was sampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from policies.bounds import Floats, kish, student_t
from policies.slices import Members, Slice

LEVEL = 0.05
_COVERED = 0.5  # a slice of which less than this is not covered yet is no further step


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its two-sided interval of 95%."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The pairs as columns. `harmful`, `by_student` (who served): 0 or 1. `moved_usd`: what a request that the teacher
    served would cost less, had the student served it."""

    harmful: Floats
    by_student: Floats
    probability: Floats
    teacher_usd: Floats
    moved_usd: Floats

    def __len__(self) -> int:
        return len(self.harmful)

    @property
    def weights(self) -> Floats:
        return 1 / self.probability

    @property
    def at_stake_usd(self) -> Floats:
        """Per request; 0 where the student served."""
        return self.moved_usd * (1 - self.by_student)


@dataclass(frozen=True, slots=True)
class Figures:
    """One slice. `share`: of the traffic that the pairs stand for. `loss`: the student's answer is or would be harmful,
    whoever served; `served_loss`: the student served it and it is harmful; both of the slice's requests.

    `lost_usd_per_day`: what the teacher's answers cost, a day, that the student would lose: loss x traffic x teacher
    cost. `at_stake_usd_per_day`: what is paid to the teacher beyond what the student would cost. `rest_loss`: of the
    traffic that the slice was compared with, which is neither in it nor in slices named in a `round` before. `q_value`:
    the least false discovery rate at which the slice is named; `named`: it is at most the level asked for.
    """

    name: str
    aliases: tuple[str, ...]
    pairs: int
    effective_pairs: float
    share: Estimate
    requests_per_day: float
    loss: Estimate
    rest_loss: float
    served_loss: Estimate
    teacher_share: float
    teacher_usd: float
    lost_usd_per_day: float
    at_stake_usd_per_day: Estimate
    p_value: float
    q_value: float
    round: int
    named: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """Traffic outside the sample of which is known that the student loses all of it; USD a day."""

    name: str
    teacher_usd_per_day: float
    at_stake_usd_per_day: float


@dataclass(frozen=True, slots=True)
class Step:
    """One more slice for the next student: what it moves to the student, a day, and what it moves with those before it.

    `loss_share`: of all that the student loses, by the cost of the teacher's answers, what lies in these slices.
    """

    name: str
    adds_usd_per_day: float
    total_usd_per_day: Estimate
    loss_share: float


@dataclass(frozen=True, slots=True)
class _Test:
    """A slice against `rest`; `q_value` is already scaled by what its round may spend of the level."""

    rest: Members
    p_value: float
    q_value: float
    round: int


def map_slices(sample: Sample, slices: Sequence[Slice], requests_per_day: float, level: float = LEVEL) -> list[Figures]:
    """The figures of every slice, dearest losses first. Slices without members, or without a rest, are left out."""
    usable = [each for each in slices if 0 < each.size < len(sample)]
    tests = _tests(sample, usable, level)
    figures = [_figures(sample, each, requests_per_day, tests[each.name], level) for each in usable]
    return sorted(figures, key=lambda each: (-each.lost_usd_per_day, -each.loss.value * each.share.value, each.name))


def next_student(
    sample: Sample,
    slices: Sequence[Slice],
    named: Sequence[Figures],
    requests_per_day: float,
    lost: Sequence[Lost] = (),
    most: int = 3,
) -> list[Step]:
    """What mending the named slices, and what is `lost` in any case, moves to the student: greedily the slice that
    loses most above the rest of the traffic, among what is not covered yet. Every request counts once.

    A slice with losses of its own (a field) is no step: a request moves when its whole answer is right. The slices were
    chosen on the same pairs, so the interval, which does not know of the choice, is a little short.
    """
    names = {figures.name for figures in named}
    worth = _Worth(sample, requests_per_day, lost)
    left = {each.name: each for each in slices if each.name in names and each.lost is None}
    while len(worth.steps) < most and worth.take_best(left):
        pass
    return worth.steps


class _Worth:
    """Slices taken so far."""

    def __init__(self, sample: Sample, requests_per_day: float, lost: Sequence[Lost]) -> None:
        self.steps: list[Step] = []
        self._sample = sample
        self._requests_per_day = requests_per_day
        self._lost = {each.name: each for each in lost}
        self._taken: list[Lost] = []
        self._covered = np.zeros(len(sample), dtype=np.bool_)

    def take_best(self, left: dict[str, Slice]) -> bool:
        """Take a slice out of `left`, or one that is lost in any case; False when none loses more than the rest."""
        gains = {name: each.teacher_usd_per_day for name, each in self._lost.items()}
        gains |= {name: self._gain(each) for name, each in left.items()}
        best = max(gains, key=lambda name: (gains[name], name), default="")
        if not gains or gains[best] <= 0:
            return False
        if best in left:
            self._covered |= left.pop(best).members
        else:
            self._taken.append(self._lost.pop(best))
        before = self.steps[-1].total_usd_per_day.value if self.steps else 0.0
        total = self._total()
        self.steps.append(Step(best, total.value - before, total, self._loss_share()))
        return True

    def _gain(self, each: Slice) -> float:
        """What the teacher's answers cost, a day, that are lost beyond the rate of the traffic outside; 0 for a slice
        that is mostly covered."""
        sample, covered = self._sample, self._covered
        fresh, rest = each.members & ~covered, ~(each.members | covered)
        if _mean((~covered[each.members]).astype(np.float64), sample.weights[each.members]) < _COVERED:
            return 0.0
        base = _mean(sample.harmful[rest], sample.weights[rest])
        return self._per_day((sample.harmful - base) * sample.teacher_usd * fresh)

    def _total(self) -> Estimate:
        sampled = mean(self._sample.at_stake_usd * self._covered, self._sample.weights, self._requests_per_day)
        certain = sum(each.at_stake_usd_per_day for each in self._taken)
        return Estimate(sampled.value + certain, sampled.low + certain, sampled.high + certain)

    def _loss_share(self) -> float:
        lost = self._sample.harmful * self._sample.teacher_usd
        taken = sum(each.teacher_usd_per_day for each in self._taken)
        everything = self._per_day(lost) + taken + sum(each.teacher_usd_per_day for each in self._lost.values())
        return (self._per_day(lost * self._covered) + taken) / everything if everything else 0.0

    def _per_day(self, usd: Floats) -> float:
        return _mean(usd, self._sample.weights) * self._requests_per_day


def rate(values: Floats, weights: Floats, level: float = LEVEL) -> Estimate:
    """The weighted mean of zeros and ones with Wilson's interval on the effective sample size; [0, 1] without any."""
    if len(values) == 0:
        return Estimate(0.0, 0.0, 1.0)
    share, effective = _share(values, weights), effective_pairs(values, weights)
    z = NormalDist().inv_cdf(1 - level / 2)
    middle = (share + z * z / (2 * effective)) / (1 + z * z / effective)
    half = z * math.sqrt(share * (1 - share) / effective + (z / (2 * effective)) ** 2) / (1 + z * z / effective)
    return Estimate(share, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))


def mean(values: Floats, weights: Floats, scale: float = 1.0, level: float = LEVEL) -> Estimate:
    """The weighted mean times `scale`, with the linearised variance of Hájek's ratio (Särndal et al. 1992, 5.7) and
    Student's t for the effective number of pairs that are not 0. Still too short for costs of very few pairs."""
    if len(values) == 0:
        return Estimate(0.0, 0.0, 0.0)
    value = float(values @ weights / weights.sum())
    freedom = kish(weights[values != 0]) - 1
    half = student_t(max(freedom, 1.0), level) * math.sqrt(_variance(values, weights, value))
    low = max(value - half, 0.0) if values.min() >= 0 else value - half
    return Estimate(value * scale, low * scale, (value + half) * scale)


def effective_pairs(values: Floats, weights: Floats) -> float:
    """How many equally weighted pairs say as much about the mean of these zeros and ones; at most Kish's number."""
    if len(values) == 0:
        return 0.0
    most = kish(weights)
    share = _share(values, weights)
    if share in (0.0, 1.0):
        return most
    return min(most, share * (1 - share) / _variance(values, weights, share))


def log_fisher_greater(hits: int, trials: int, other_hits: int, other_trials: int) -> float:
    """log P(at least `hits` of all hits fall on `trials` of all trials), were they dealt at random: Fisher (1935)."""
    drawn, total = hits + other_hits, trials + other_trials
    counts = np.arange(hits, min(drawn, trials) + 1)
    logs = _log_binomials(trials, counts) + _log_binomials(other_trials, drawn - counts)
    largest = float(logs.max())
    tail = largest + math.log(float(np.exp(logs - largest).sum()))
    return min(0.0, tail - float(_log_binomials(total, np.array([drawn]))[0]))


def benjamini_yekutieli(p_values: Sequence[float]) -> list[float]:
    """The least false discovery rate at which each hypothesis is rejected, under any dependence; in the given order."""
    count = len(p_values)
    factor = count * sum(1 / place for place in range(1, count + 1))
    least, adjusted = 1.0, [1.0] * count
    for place, index in sorted(enumerate(np.argsort(p_values, kind="stable"), 1), reverse=True):
        least = min(least, p_values[index] * factor / place)
        adjusted[index] = least
    return adjusted


def pairs_to_name(share: float, loss: float, rest_loss: float, tests: int, level: float = LEVEL) -> int:
    """About how many pairs of equal weight name a slice with this share of them and this loss, four times out of five,
    as the only one among `tests` slices: the normal approximation of two proportions. Loss and rest must differ."""
    harmonic = sum(1 / place for place in range(1, tests + 1))
    normal = NormalDist()
    z = normal.inv_cdf(1 - level / max(tests * harmonic, 1)) + normal.inv_cdf(0.8)
    variance = loss * (1 - loss) / share + rest_loss * (1 - rest_loss) / (1 - share)
    return math.ceil(max(variance, 0.01 / share) * (z / (loss - rest_loss)) ** 2)


def _tests(sample: Sample, slices: Sequence[Slice], level: float) -> dict[str, _Test]:
    """The test of each slice in the round that named it, or else in the last one."""
    done: dict[str, _Test] = {}
    named: list[Slice] = []
    left, outside, number = list(slices), np.ones(len(sample), dtype=np.bool_), 1
    while left:
        done |= _round(sample, left, outside, number)
        fresh = [each for each in left if done[each.name].q_value <= level]
        if not fresh:
            break
        named += [each for each in fresh if each.lost is None]
        left = [each for each in left if done[each.name].q_value > level]
        outside, number = _take_out(sample, named, left, outside, level), number + 1
    return done


def _take_out(sample: Sample, named: list[Slice], left: Sequence[Slice], outside: Members, level: float) -> Members:
    """What is left of `outside` without the named slices that account for its losses, the clearest first; they leave
    `named`, too. It ends where a slice that is not named yet would be clearer: a broad slice must not hide it."""
    whole = [each for each in left if each.lost is None]
    while named:
        rivals = min((_log_p_value(sample, each, outside) for each in whole), default=0.0)
        clearest, place = min((_log_p_value(sample, each, outside), place) for place, each in enumerate(named))
        if clearest > math.log(level) or clearest >= rivals - 1e-9:
            break
        outside = outside & ~named.pop(place).members
    return outside


def _round(sample: Sample, slices: Sequence[Slice], outside: Members, number: int) -> dict[str, _Test]:
    p_values = [math.exp(_log_p_value(sample, each, outside)) for each in slices]
    q_values = [min(1.0, q * 2**number) for q in benjamini_yekutieli(p_values)]
    return {
        each.name: _Test(outside & ~each.members, p_value, q_value, number)
        for each, p_value, q_value in zip(slices, p_values, q_values, strict=True)
    }


def _figures(sample: Sample, each: Slice, requests_per_day: float, test: _Test, level: float) -> Figures:
    weights, members = sample.weights, each.members
    inside, harmful = weights[members], _harmful(sample, each)[members]
    share = rate(members.astype(np.float64), weights)
    lost = _harmful(sample, each) * members * sample.teacher_usd
    return Figures(
        name=each.name,
        aliases=each.aliases,
        pairs=each.size,
        effective_pairs=kish(inside),
        share=share,
        requests_per_day=share.value * requests_per_day,
        loss=rate(harmful, inside),
        rest_loss=_mean(sample.harmful[test.rest], weights[test.rest]),
        served_loss=rate(harmful * sample.by_student[members], inside),
        teacher_share=1 - _mean(sample.by_student[members], inside),
        teacher_usd=_mean(sample.teacher_usd[members], inside),
        lost_usd_per_day=_mean(lost, weights) * requests_per_day,
        at_stake_usd_per_day=mean(sample.at_stake_usd * members, weights, requests_per_day),
        p_value=test.p_value,
        q_value=test.q_value,
        round=test.round,
        named=test.q_value <= level,
    )


def _log_p_value(sample: Sample, each: Slice, outside: Members) -> float:
    """Of the pairs `outside` what is named. Effective counts, rounded against the slice: its losses down, others up."""
    fresh, rest, weights = each.members & outside, outside & ~each.members, sample.weights
    ours, theirs = _harmful(sample, each)[fresh], sample.harmful[rest]
    trials = math.floor(effective_pairs(ours, weights[fresh]) + 1e-6)
    others = math.floor(effective_pairs(theirs, weights[rest]) + 1e-6)
    if not trials or not others:
        return 0.0
    hits = math.floor(_share(ours, weights[fresh]) * trials + 1e-6)
    other_hits = math.ceil(_share(theirs, weights[rest]) * others - 1e-6)
    return log_fisher_greater(hits, trials, other_hits, others)


def _harmful(sample: Sample, each: Slice) -> Floats:
    return sample.harmful if each.lost is None else sample.harmful * each.lost


def _mean(values: Floats, weights: Floats) -> float:
    return float(values @ weights / weights.sum()) if len(values) else 0.0


def _share(values: Floats, weights: Floats) -> float:
    """The weighted mean of zeros and ones, exactly 0 or 1 where all of them are."""
    if values.min() == values.max():
        return float(values[0])
    return float(values @ weights / weights.sum())


def _variance(values: Floats, weights: Floats, value: float) -> float:
    return float(np.sum((weights * (values - value)) ** 2)) / float(weights.sum()) ** 2


def _log_binomials(trials: int, counts: NDArray[np.int_]) -> Floats:
    """log of `trials` over each of `counts`; -inf where there is none."""
    logs = [
        math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
        if 0 <= count <= trials
        else -math.inf
        for count in counts.tolist()
    ]
    return np.array(logs)
