"""From heads to the expected loss of serving the student: the same in every trained policy, alone or in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from policies.learn.calibrate import Calibrator
from policies.learn.rows import Floats

Chance = TypeVar("Chance", float, Floats)


def raw_loss(chances: Floats) -> Floats:
    """Before calibration, (..., heads) to (...).

    P(teacher good) (1 - P(student good)), as if they were independent, of the first two heads; or the one head's
    P(harm).
    """
    return np.asarray(_raw(*np.moveaxis(chances, -1, 0)))


def expected(chances: Floats, calibrator: Calibrator) -> Floats:
    """The calibrated loss in [0, 1], (n, heads) to (n,). What is no number is 1: the teacher's."""
    return np.nan_to_num(np.clip(calibrator(raw_loss(chances)), 0.0, 1.0), nan=1.0)


def expected_of(chances: Sequence[float], calibrator: Calibrator) -> float:
    """`expected` of one request."""
    loss = calibrator.one(_raw(*chances))
    return max(0.0, min(1.0, loss))  # in this order NaN becomes 1


def _raw(first: Chance, *others: Chance) -> Chance:
    return first * (1.0 - others[0]) if others else first
