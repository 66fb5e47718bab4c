"""Two alarms that what was calibrated no longer holds: one sees no labels, one sees the audits' losses.

`ShiftAlarm` compares the scores and the novelties of recent requests with those of the requests that came first after
a calibration, by the two-sample Kolmogorov-Smirnov distance D of samples of n and m: P(D sqrt(nm / (n + m)) > t) is at
most 2 exp(-2 t²) for large samples (Smirnov 1939), less for binned ones. A union bound over its looks keeps false
alarms `FALSE_ALARM_REQUESTS` apart. It takes requests as independent: a burst of one caller looks like a shift.

`LossAlarm` is a Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo 2023, arXiv:2203.03532): with bets
e_i of mean at most 1 as long as audits lose no more than was expected of their scores, R_i = (R_{i-1} + 1) e_i reaches
A after at least A audits on average, whatever the distribution. It sees no improvement, which is no reason to stop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policies.bounds import Floats
from policies.certify.bins import NOVELTY_BINS, SCORE_BINS

REFERENCE = 800  # requests
BLOCK = 100  # requests between two looks
BLOCKS = 3  # that are looked at together
TOLERATED = 0.05  # of the distance
FALSE_ALARM_REQUESTS = 1_000_000
FALSE_ALARM_AUDITS = 4_000
EXPECTED = 1.25  # times the expected loss is still no alarm: the expectation is an estimate itself
LEAST_EXPECTED = 0.005
BETS: Floats = np.array([0.1, 0.25, 0.5])

_CELLS = SCORE_BINS + NOVELTY_BINS
_LIMIT = math.sqrt(math.log(2 * 2 * FALSE_ALARM_REQUESTS / BLOCK) / 2)  # t of two distances at each look


@dataclass(slots=True)
class ShiftAlarm:
    """`reference` is filled first; then requests go to `block`, and full ones are kept in `recent`."""

    reference: Floats = field(default_factory=lambda: np.zeros(_CELLS))
    block: Floats = field(default_factory=lambda: np.zeros(_CELLS))
    recent: list[Floats] = field(default_factory=list)

    def count(self, scores: Floats, novelties: Floats) -> str | None:
        """Requests by bin, shapes (SCORE_BINS,) and (NOVELTY_BINS,). Says why where the recent are of another kind."""
        cells = np.concatenate((scores, novelties))
        if _requests(self.reference) < REFERENCE:
            self.reference = self.reference + cells
            return None
        self.block = self.block + cells
        if _requests(self.block) < BLOCK:
            return None
        self.recent = [*self.recent[1 - BLOCKS :], self.block]
        self.block = np.zeros(_CELLS)
        return self._look() if len(self.recent) == BLOCKS else None

    def _look(self) -> str | None:
        recent = np.sum(self.recent, axis=0)
        limit = TOLERATED + _LIMIT * math.sqrt(1 / _requests(recent) + 1 / _requests(self.reference))
        for name, cells in (("scores", slice(SCORE_BINS)), ("novelties", slice(SCORE_BINS, None))):
            distance = _distance(recent[cells], self.reference[cells])
            if distance > limit:
                return f"the {name} moved: a Kolmogorov-Smirnov distance of {distance:.2f}, above {limit:.2f}"
        return None

    def dump(self) -> dict[str, Any]:
        return {
            "reference": self.reference.tolist(),
            "block": self.block.tolist(),
            "recent": [block.tolist() for block in self.recent],
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> ShiftAlarm:
        recent = [np.array(block) for block in state["recent"]]
        return cls(np.array(state["reference"]), np.array(state["block"]), recent)


def _requests(cells: Floats) -> float:
    return float(cells[:SCORE_BINS].sum())


def _distance(one: Floats, other: Floats) -> float:
    return float(np.abs(np.cumsum(one) / one.sum() - np.cumsum(other) / other.sum()).max())


@dataclass(slots=True)
class LossAlarm:
    """One detector for each of `BETS`; their mean is an e-detector again."""

    evidence: Floats = field(default_factory=lambda: np.zeros(len(BETS)))

    def audited(self, harms: Floats, expected: Floats) -> str | None:
        """Losses in [-1, 1], by time, and what was expected of them; shapes (n,). Says why where it rings."""
        surprises = harms - EXPECTED * np.maximum(expected, LEAST_EXPECTED)
        for surprise in surprises.tolist():
            self.evidence = (self.evidence + 1) * np.maximum(0.0, 1 + BETS * surprise)
        evidence = float(self.evidence.mean())
        if evidence < FALSE_ALARM_AUDITS:
            return None
        return f"the audits lose more than calibrated: evidence {evidence:.0f}, above {FALSE_ALARM_AUDITS}"

    def dump(self) -> dict[str, Any]:
        return {"evidence": self.evidence.tolist()}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> LossAlarm:
        return cls(np.array(state["evidence"]))
