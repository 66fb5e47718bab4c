"""What a threshold would lose now: a line through the audited losses over the score, and how many requests score what.

E[loss | score s] = mean + slope · (s - mean score), by weighted least squares over recent audits; older ones fade. The
slope is drawn towards that of the calibration (a ridge worth `SLOPE_AUDITS` audits), for it is seldom that an audit
teaches a slope. The score is a calibrated expected loss, so a line is its own shape; where that is wrong, the total is
still kept by the ledger (`policies/certify/ledger.py`), which does not believe the line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policies.bounds import Floats
from policies.certify.bins import ABOVE_ALL, CENTRES, EDGES, SCORE_BINS

SLOPE_AUDITS = 100.0
STEEPEST = 1.5
_SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Line:
    """The expected loss over the score; at least 0."""

    score: float = 0.0
    loss: float = 0.0
    slope: float = 1.0

    def at(self, scores: Floats) -> Floats:
        return np.maximum(0.0, self.loss + self.slope * (scores - self.score))


@dataclass(frozen=True, slots=True)
class Cut:
    """A threshold, and what is lost below it, per request of all."""

    threshold: float = 0.0
    loss: float = 0.0


@dataclass(slots=True)
class Curve:
    """`sums`: of w, w², w s, w s², w x, w s x over audits, faded; `scores`: requests by bin, faded alike."""

    slope: float = 1.0
    sums: Floats = field(default_factory=lambda: np.zeros(6))
    scores: Floats = field(default_factory=lambda: np.zeros(SCORE_BINS))

    def forget(self) -> None:
        """Begins anew, but for the slope that is expected."""
        self.sums = np.zeros(6)
        self.scores = np.zeros(SCORE_BINS)

    def count(self, scores: Floats, memory: float) -> None:
        """Requests by bin, shape (SCORE_BINS,); what was known fades by exp(-requests / memory)."""
        kept = math.exp(-float(scores.sum()) / memory)
        self.sums = self.sums * kept
        self.scores = self.scores * kept + scores

    def audited(self, scores: Floats, harms: Floats, weights: Floats) -> None:
        """Audited pairs, whoever served; shapes (n,)."""
        columns = np.stack((np.ones_like(scores), weights, scores, scores**2, harms, scores * harms))
        self.sums = self.sums + columns @ weights

    def line(self) -> Line:
        """The line now; through the origin of the score while there is no audit."""
        weight, squares, score, score_2, harm, product = self.sums.tolist()
        if weight <= 0:
            return Line(slope=self.slope)
        centre, level = score / weight, harm / weight
        spread = max(score_2 / weight - centre**2, _SMALLEST_VARIANCE)
        pairs = weight**2 / squares
        raw = (product / weight - centre * level) / spread
        slope = (pairs * raw + SLOPE_AUDITS * self.slope) / (pairs + SLOPE_AUDITS)
        return Line(centre, level, min(max(slope, 0.0), STEEPEST))

    def cuts(self, allowed: float) -> tuple[Cut, Cut]:
        """The largest threshold below which the requests lose at most `allowed` per request of all, and the next one.

        Both are that of everything where everything may be served, and of nothing where nothing may.
        """
        requests = float(self.scores.sum())
        if requests <= 0 or allowed <= 0:
            return Cut(), Cut()
        losses = np.cumsum(self.scores * self.line().at(CENTRES)) / requests
        above = int(np.searchsorted(losses, allowed, side="right"))
        if above == SCORE_BINS:
            return Cut(ABOVE_ALL, float(losses[-1])), Cut(ABOVE_ALL, float(losses[-1]))
        under = Cut(float(EDGES[above]), float(losses[above - 1])) if above else Cut()
        return under, Cut(float(EDGES[above + 1]), float(losses[above]))

    def dump(self) -> dict[str, Any]:
        return {"slope": self.slope, "sums": self.sums.tolist(), "scores": self.scores.tolist()}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Curve:
        return cls(state["slope"], np.array(state["sums"]), np.array(state["scores"]))
