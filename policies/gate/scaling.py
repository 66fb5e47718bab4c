"""Dense columns made fit for a linear model: no gaps, no long tails, one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.learn.rows import Floats, Ints

FARTHEST = 3.0  # standard deviations: nothing beyond speaks louder
RARE_GAP = 0.01


@dataclass(frozen=True, slots=True)
class Scaling:
    """NaN becomes the column's `middle`, and of the columns `gaps` it is told by one more column each.

    Then x -> sign(x) log(1 + |x|), minus `mean`, by `deviation`, kept within `FARTHEST`.
    """

    middle: Floats
    gaps: Ints
    mean: Floats
    deviation: Floats

    def __call__(self, dense: Floats) -> Floats:
        """(n, d) to (n, d + len(gaps)), finite."""
        return np.clip((_squashed(dense, self.middle, self.gaps) - self.mean) / self.deviation, -FARTHEST, FARTHEST)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As tensors of a file."""
        return {f"scaling.{each.name}": getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Scaling:
        """From a file's tensors. KeyError where one is missing."""
        return cls(**{each.name: tensors[f"scaling.{each.name}"] for each in fields(cls)})


def fit(dense: Floats) -> Scaling:
    """The scaling of training data, shape (n, d). A column that does not vary in it is 0 wherever it is scaled."""
    missing = np.isnan(dense)
    some = ~missing.all(axis=0)
    middle = np.zeros(dense.shape[1])
    middle[some] = np.nanmedian(dense[:, some], axis=0)
    share = missing.mean(axis=0)
    gaps = np.flatnonzero((share > RARE_GAP) & (share < 1 - RARE_GAP))
    squashed = _squashed(dense, middle, gaps)
    deviation = squashed.std(axis=0)
    return Scaling(middle, gaps, squashed.mean(axis=0), np.where(deviation > 1e-9, deviation, np.inf))


def _squashed(dense: Floats, middle: Floats, gaps: Ints) -> Floats:
    missing = np.isnan(dense)
    filled = np.where(missing, middle, dense)
    logs = np.sign(filled) * np.log1p(np.abs(filled))
    return np.concatenate((logs, missing[:, gaps].astype(np.float64)), axis=1)
