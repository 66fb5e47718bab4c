"""Two-sided intervals for means of weighted, clustered draws: of shares, of differences of shares, and of money.

Shares (a loss is one): Korn and Graubard (1998, Survey Methodology 24(2)): the exact binomial interval of Clopper and
Pearson on the number of draws that the clustered variance says they are worth, at most Kish's; counts are rounded
outwards. With few losses, or none, where a normal interval collapses, it stays honest. Where all draws say the same,
their variance does not tell how alike those of a cluster are: then their number must be that of the clusters.
Differences of shares: what is more and what is less, each with its interval, put together by their covariance (MOVER:
Zou and Donner 2008, Statistics in Medicine 27(10)). Money, which has no bound: Student's t on the linearised error,
with the skewness that costs have taken out (Hall 1992, JRSS-B 54(1)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from policies.bounds import binomial_lower, binomial_upper, student_t

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Figure:
    """A value and its two-sided interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Figure:
        """In another unit; `factor` is not negative."""
        return Figure(self.value * factor, self.low * factor, self.high * factor)


def share(value: float, variance: float, effective: float, delta: float, largest: float = 1.0) -> Figure:
    """A mean of values in [0, `largest`], which is positive; `variance` is the mean's own.

    A doubly robust mean may lie a little outside, and is moved to the edge. Below one effective draw: [0, `largest`].
    """
    part = min(max(value / largest, 0.0), 1.0)
    value = part * largest
    worth = effective
    if 0 < part < 1 and variance > 0:
        worth = min(effective, part * (1 - part) * largest**2 / variance)
    trials = math.floor(worth + _ROUNDING)
    if trials < 1:
        return Figure(value, 0.0, largest)
    low = binomial_lower(math.floor(part * trials + _ROUNDING), trials, delta / 2)
    high = binomial_upper(math.ceil(part * trials - _ROUNDING), trials, delta / 2)
    return Figure(value, min(low * largest, value), max(high * largest, value))


def difference(more: Figure, less: Figure, covariance: float, variances: tuple[float, float]) -> Figure:
    """`more` - `less`; `variances`: of the two, in this order."""
    spread = math.sqrt(variances[0] * variances[1])
    together = max(-1.0, min(1.0, covariance / spread)) if spread > 0 else 0.0
    value = more.value - less.value
    low = _apart(more.value - more.low, less.high - less.value, together)
    high = _apart(more.high - more.value, less.value - less.low, together)
    return Figure(value, value - low, value + high)


def money(value: float, variance: float, skewness: float, freedom: float, delta: float) -> Figure:
    """`variance`, `skewness`: of the mean itself. `freedom`: about how many independent draws these were learned from,
    less one."""
    error, quantile = math.sqrt(max(variance, 0.0)), student_t(max(freedom, 1.0), delta)
    low, high = (value - error * _straightened(side * quantile, skewness) for side in (1, -1))
    return Figure(value, low, high)


def _straightened(quantile: float, skewness: float) -> float:
    """Hall's cubic transformation, inverted: the error, in standard errors, at this quantile of a skewed mean."""
    if abs(skewness) < _ROUNDING:
        return quantile
    return 3 / skewness * (math.cbrt(1 + skewness * (quantile - skewness / 6)) - 1)


def _apart(first: float, second: float, together: float) -> float:
    return math.sqrt(max(0.0, first * first + second * second - 2 * together * first * second))
