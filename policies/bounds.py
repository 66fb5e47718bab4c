"""Confidence bounds for a rate of losses seen in a random sample, with equal or unequal known sampling probabilities.

`delta` is always the probability with which a statement may be wrong: a bound at `delta` = 0.05 holds with 95%.
Requests are taken as independent draws from one traffic; under drift a bound speaks of the traffic that was sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_PAIRS = 10_000_000
# Fractions of the largest bet allowed; large ones win on few losses, small ones on many. See `weighted_upper`.
_BETS = np.array([0.99, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0.05])


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class WeightedRate:
    """A rate over all traffic: the Hájek estimate, its two-sided interval, Kish's effective number of pairs."""

    estimate: float
    interval: Interval
    effective_pairs: float


def log_binomial_tail(failures: int, trials: int, rate: float) -> float:
    """log P(X <= failures) for X ~ Binomial(trials, rate), exact up to rounding: sums the tail away from the mode."""
    if failures >= trials or rate <= 0:
        return 0.0 if failures >= 0 else -math.inf
    if failures < 0 or rate >= 1:
        return -math.inf
    if failures < trials * rate:
        return _log_lower_tail(failures, trials, rate)
    upper = _log_lower_tail(trials - failures - 1, trials, 1 - rate)  # P(X > k) = P(n - X <= n - k - 1)
    return math.log1p(-math.exp(min(upper, -1e-300)))


def binomial_upper(failures: int, trials: int, delta: float) -> float:
    """One-sided Clopper–Pearson bound: the rate at which so few failures have probability `delta`.

    Source: Clopper and Pearson (1934), Biometrika 26(4). 1.0 without trials. Raises ValueError on impossible counts.
    """
    _check_counts(failures, trials, delta)
    if failures == trials:
        return 1.0
    target = math.log(delta)
    return _bisect(lambda rate: log_binomial_tail(failures, trials, rate) <= target, failures / trials, 1.0)


def binomial_lower(failures: int, trials: int, delta: float) -> float:
    """One-sided Clopper–Pearson bound from below; 0.0 without trials."""
    _check_counts(failures, trials, delta)
    return 1 - binomial_upper(trials - failures, trials, delta)


def clopper_pearson(failures: int, trials: int, delta: float) -> Interval:
    """The two-sided interval, `delta`/2 on each side; covers with at least 1 - delta for every rate."""
    return Interval(binomial_lower(failures, trials, delta / 2), binomial_upper(failures, trials, delta / 2))


def self_normalised(losses: Sequence[float] | Floats, probabilities: Sequence[float] | Floats) -> float:
    """Hájek's ratio (1971; SNIPS in Swaminathan and Joachims 2015): the mean weighted by 1/probability."""
    values, weights = _weighted(losses, probabilities)
    return float(values @ weights / weights.sum())


def effective_sample_size(probabilities: Sequence[float] | Floats) -> float:
    """The number of equally weighted pairs worth as much; see `kish`."""
    return kish(1 / np.asarray(probabilities, dtype=np.float64))


def kish(weights: Floats) -> float:
    """(sum w)² / sum w²: how many equally weighted draws say as much (Kish 1965); 0 without any.

    Exactly n where n weights are equal, so that it can be held against a number that is asked for.
    """
    largest = weights.max(initial=0.0)
    if not largest:
        return 0.0
    relative = weights / largest
    return float(relative.sum()) ** 2 / float(relative @ relative)


def student_t(freedom: float, delta: float) -> float:
    """The two-sided quantile, by its expansion (Abramowitz and Stegun 1964, 26.7.5).

    At 95% right to 1% from two degrees of `freedom` on; at one, 11% too small.
    """
    z = NormalDist().inv_cdf(1 - delta / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def certifies(
    losses: Sequence[float] | Floats,
    probabilities: Sequence[float] | Floats,
    max_loss: float,
    delta: float,
    smallest_probability: float | None = None,
) -> bool:
    """Whether the sample rejects "the loss over all traffic is `max_loss` or more" at level `delta`.

    The same test as `weighted_upper(...) <= max_loss`, without the search for the bound.
    """
    if not 0 < max_loss < 1:
        return max_loss >= 1
    return _log_evidence(losses, probabilities, smallest_probability)(max_loss) >= -math.log(delta)


def weighted_upper(
    losses: Sequence[float] | Floats,
    probabilities: Sequence[float] | Floats,
    delta: float,
    smallest_probability: float | None = None,
) -> float:
    """Upper bound at `delta` for the mean loss (each in [0, 1]) over all traffic, from sampled pairs.

    Equal probabilities and losses of 0 or 1: exactly `binomial_upper`. Otherwise the bound by betting (Waudby-Smith and
    Ramdas 2023, JRSS-B 86(1), mixed over fixed bets): with weights w = 1/probability and r = w / largest w, the capital
    prod(1 - c r (loss - m) / (1 - m)) has expectation 1 if the mean is m, so by Ville's inequality a capital of 1/delta
    rejects m. It grows with m, hence one bisection. It does not depend on the order of the pairs and is far tighter on
    rare losses than an empirical Bernstein bound. `smallest_probability` is the smallest with which any request could
    have been sampled; left out, the smallest seen stands for it.
    """
    if len(losses) == 0:
        return 1.0
    evidence = _log_evidence(losses, probabilities, smallest_probability)
    target = -math.log(delta)
    return _bisect(lambda mean: evidence(mean) >= target, 0.0, 1.0)


def weighted_rate(
    losses: Sequence[float] | Floats,
    probabilities: Sequence[float] | Floats,
    delta: float,
    smallest_probability: float | None = None,
) -> WeightedRate:
    """Estimate and two-sided interval (`delta`/2 on each side by `weighted_upper`). Raises ValueError without pairs."""
    values, _ = _weighted(losses, probabilities)
    if len(values) == 0:
        raise ValueError("a rate needs at least one pair")
    low = 1 - weighted_upper(1 - values, probabilities, delta / 2, smallest_probability)
    high = weighted_upper(values, probabilities, delta / 2, smallest_probability)
    return WeightedRate(
        self_normalised(values, probabilities), Interval(low, high), effective_sample_size(probabilities)
    )


def pairs_needed(max_loss: float, delta: float, observed_rate: float, pairs_so_far: int = 0) -> int | None:
    """How many more uniformly sampled pairs would certify `max_loss` at `delta` if losses keep to `observed_rate`.

    None where none would: the rate is not below `max_loss`, or more than `MOST_PAIRS` would be needed.
    """
    if observed_rate >= max_loss:
        return None
    target = math.log(delta)

    def enough(pairs: int) -> bool:
        return log_binomial_tail(math.ceil(observed_rate * pairs), pairs, max_loss) <= target

    low, high = 0, math.ceil(target / math.log1p(-max_loss))
    while high <= MOST_PAIRS and not enough(high):
        low, high = high, 2 * high
    if high > MOST_PAIRS:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(0, high - pairs_so_far)


def _log_lower_tail(failures: int, trials: int, rate: float) -> float:
    """log P(X <= failures) below the mode, where the terms fall from `failures` downwards."""
    log_term = (
        math.lgamma(trials + 1)
        - math.lgamma(failures + 1)
        - math.lgamma(trials - failures + 1)
        + failures * math.log(rate)
        + (trials - failures) * math.log1p(-rate)
    )
    odds = (1 - rate) / rate
    term = total = 1.0
    for count in range(failures, 0, -1):
        term *= count / (trials - count + 1) * odds
        total += term
        if term < 1e-17 * total:
            break
    return log_term + math.log(total)


def _log_evidence(
    losses: Sequence[float] | Floats, probabilities: Sequence[float] | Floats, smallest_probability: float | None
) -> Callable[[float], float]:
    """The log of the evidence against "the mean is `m` or more", as a function of m that does not fall."""
    values, weights = _weighted(losses, probabilities)
    if len(values) == 0:
        return lambda mean: 0.0
    largest_weight = float(weights.max())
    if smallest_probability is not None:
        if smallest_probability > 1 / largest_weight * (1 + 1e-9):
            raise ValueError(f"a pair was sampled with less than the smallest probability {smallest_probability}")
        largest_weight = max(largest_weight, 1 / smallest_probability)
    relative = weights / largest_weight
    if relative.min() > 1 - 1e-9 and np.isin(values, (0.0, 1.0)).all():
        failures, trials = int(values.sum()), len(values)
        return lambda mean: -log_binomial_tail(failures, trials, mean)
    return lambda mean: _log_capital(values, relative, mean)


def _log_capital(losses: Floats, relative: Floats, mean: float) -> float:
    if mean >= 1:
        return math.inf
    outcomes = relative * (losses - mean) / (1 - mean)
    capitals = np.log1p(-np.outer(_BETS, outcomes)).sum(axis=1)
    best = float(capitals.max())
    return best + math.log(float(np.exp(capitals - best).mean()))


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest argument at which `holds` turns true, rounded up; `high` counts as true without being asked."""
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _weighted(losses: Sequence[float] | Floats, probabilities: Sequence[float] | Floats) -> tuple[Floats, Floats]:
    values = np.asarray(losses, dtype=np.float64)
    chances = np.asarray(probabilities, dtype=np.float64)
    if values.shape != chances.shape or values.ndim != 1:
        raise ValueError(f"{values.shape} losses do not match {chances.shape} probabilities")
    if not ((chances > 0) & (chances <= 1)).all():
        raise ValueError("sampling probabilities must be above 0 and at most 1")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("losses must lie in [0, 1]")
    return values, 1 / chances


def _check_counts(failures: int, trials: int, delta: float) -> None:
    if not 0 <= failures <= trials:
        raise ValueError(f"{failures} failures of {trials} trials")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, not {delta}")
