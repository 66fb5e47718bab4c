"""P(student wrong) from a score such as the mean token log-probability: higher scores, fewer errors.

Isotonic regression over equally filled bins: the data give the shape, the bins and a prior keep tens of pairs from
being read as certainty. What it does not know: scores beyond those seen, for which the outermost value stands.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SMALLEST_BIN = 8


@dataclass(frozen=True, slots=True)
class Calibration:
    """A piecewise linear, non-increasing curve through (scores[i], wrong[i]), flat outside. ValueError if not."""

    scores: tuple[float, ...]
    wrong: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.scores or len(self.scores) != len(self.wrong):
            raise ValueError("a calibration needs as many probabilities as scores, and at least one")
        if any(not low < high for low, high in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError("calibration scores must rise")
        if any(not low >= high for low, high in zip(self.wrong, self.wrong[1:], strict=False)):
            raise ValueError("calibrated probabilities must not rise with the score")
        if not all(0 <= probability <= 1 for probability in self.wrong):
            raise ValueError("calibrated probabilities must lie in [0, 1]")

    def p_wrong(self, score: float) -> float:
        """P(student wrong) at `score`; NaN is taken for the worst score."""
        scores, wrong = self.scores, self.wrong
        above = bisect_left(scores, score) if score == score else 0
        if above == 0:
            return wrong[0]
        if above == len(scores):
            return wrong[-1]
        share = (score - scores[above - 1]) / (scores[above] - scores[above - 1])
        value = wrong[above - 1] + share * (wrong[above] - wrong[above - 1])
        return max(value, wrong[above])  # rounding must not undercut the next breakpoint


def fit(scores: Sequence[float], wrong: Sequence[bool], weights: Sequence[float] | None = None) -> Calibration:
    """Fits a `Calibration` to judged pairs; `weights` are 1/sampling probability, any scale.

    Pairs are binned by score (equal counts, at least `SMALLEST_BIN`, about sqrt(n) bins, equal scores together) and
    made monotone by weighted pool-adjacent-violators (Ayer et al. 1955; Zadrozny and Elkan 2002 for its use in
    calibration). A pooled block of n pairs, w of them wrong, gets Laplace's (w + 1) / (n + 2), so that no block is
    certain; what that disorders is pooled again.
    Raises ValueError without pairs, on scores that are not finite, or on weights that are not positive.
    """
    points, labels, loads = _sorted_pairs(scores, wrong, weights)
    starts = _bin_starts(points)
    pairs = np.add.reduceat(loads, starts)
    centres = np.add.reduceat(loads * points, starts) / pairs
    rates, pooled = _pool_violators(np.add.reduceat(loads * labels, starts) / pairs, pairs)
    careful, _ = _pool_violators((rates * pooled + 1) / (pooled + 2), pairs)
    return _curve(centres, careful)


def _sorted_pairs(
    scores: Sequence[float], wrong: Sequence[bool], weights: Sequence[float] | None
) -> tuple[Floats, Floats, Floats]:
    """Arrays sorted by score; weights scaled to sum to Kish's effective number of pairs."""
    points = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(wrong, dtype=np.float64)
    loads = np.ones_like(points) if weights is None else np.asarray(weights, dtype=np.float64)
    if not 0 < len(points) == len(labels) == len(loads):
        raise ValueError("a calibration needs at least one pair, and a label and a weight for each score")
    if not np.isfinite(points).all():
        raise ValueError("scores must be finite")
    if not (np.isfinite(loads) & (loads > 0)).all():
        raise ValueError("weights must be positive")
    order = np.argsort(points, kind="stable")
    points, labels, loads = points[order], labels[order], loads[order] / loads.max()
    return points, labels, loads * (loads.sum() / (loads @ loads))


def _bin_starts(points: Floats) -> NDArray[np.intp]:
    """First index of each bin; equal scores stay together, and a last bin that is too small joins its neighbour."""
    size = max(SMALLEST_BIN, round(len(points) ** 0.5))
    wanted = np.arange(0, max(len(points) - size, 0) + 1, size)
    return np.unique(np.searchsorted(points, points[wanted], side="left"))


def _pool_violators(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The non-increasing sequence closest to `values` in weighted least squares; and each one's pooled weight."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] <= block[0]:
            mean, load, length = blocks.pop()
            total = load + block[1]
            block = ((mean * load + block[0] * block[1]) / total, total, length + block[2])
        blocks.append(block)
    lengths = [length for _, _, length in blocks]
    return np.repeat([mean for mean, _, _ in blocks], lengths), np.repeat([load for _, load, _ in blocks], lengths)


def _curve(centres: Floats, rates: Floats) -> Calibration:
    """Drops bins whose centres coincide by rounding (the higher risk stays)."""
    rising = np.concatenate(([True], np.diff(centres) > 0))
    return Calibration(tuple(centres[rising].tolist()), tuple(rates[rising].tolist()))
