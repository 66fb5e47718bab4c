"""Sums of step functions, each of one column: boosted trees of one split as a generalised additive model.

Lou, Caruana and Gehrke (2012), Intelligible models for classification and regression. Grown by LightGBM (the extra
`learn`), served by three numpy calls whatever their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.learn.rows import Floats, Ints
from policies.learn.trees import Forest


@dataclass(frozen=True, slots=True)
class Steps:
    """k sums over u steps: step i adds `height[i]`, (k,), where column `column[i]` is above `limit[i]`."""

    column: Ints
    limit: Floats
    height: Floats

    def of(self, row: Floats) -> Floats:
        """The sums for one row, (d,) to (k,)."""
        return np.asarray((row.take(self.column) > self.limit).dot(self.height))

    @classmethod
    def none(cls) -> Steps:
        """One sum without steps."""
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 1)))

    @classmethod
    def together(cls, each: Sequence[Steps]) -> Steps:
        """Several of one sum side by side; equal steps become one."""
        keys = np.concatenate([np.stack((steps.column, steps.limit), axis=1) for steps in each])
        found, place = np.unique(keys, axis=0, return_inverse=True)
        sums = np.repeat(np.arange(len(each)), [len(steps.column) for steps in each])
        height = np.zeros((len(found), len(each)))
        np.add.at(height, (place.ravel(), sums), np.concatenate([steps.height[:, 0] for steps in each]))
        return cls(found[:, 0].astype(np.int64), found[:, 1], height)

    def tensors(self, prefix: str) -> dict[str, NDArray[Any]]:
        """As tensors of a file, their names beginning with `prefix`."""
        return {f"{prefix}column": self.column, f"{prefix}limit": self.limit, f"{prefix}height": self.height}

    @classmethod
    def read(cls, tensors: Mapping[str, NDArray[Any]], prefix: str, columns: int, sums: int) -> Steps:
        """From a file's tensors. KeyError where one is missing, ValueError where they are no steps of `columns`."""
        steps = cls(*(tensors[f"{prefix}{name}"] for name in ("column", "limit", "height")))
        count = steps.column.size
        shaped = steps.column.shape == steps.limit.shape == (count,) and steps.height.shape == (count, sums)
        if not (shaped and ((steps.column >= 0) & (steps.column < columns)).all()):
            raise ValueError(f"'{prefix}*' are no steps")
        return steps


def from_stumps(forest: Forest, share: Floats) -> tuple[float, Steps]:
    """What trees of at most one split (depth 1) give, the i-th times `share[i]`: a constant, and steps of one sum."""
    left, right = (forest.children[2 * forest.roots + side] for side in (0, 1))
    height = share * (forest.value[right] - forest.value[left])
    splits = left != forest.roots
    roots = forest.roots[splits]
    return float(share @ forest.value[left]), Steps(forest.column[roots], forest.limit[roots], height[splits, None])
