"""Slopes of their own for whoever asks: a tenant, key, route or system prompt may be harder where others are easier.

A level is one identity column (`features.Features.columns` beyond the words). Each gets deviations from the common
weights of the structure, shrunken towards none by the same penalty (a mixed model: random intercepts and slopes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.difficulty import features
from policies.learn.linear import Linear
from policies.learn.rows import Floats, Ints, Sparse

FEWEST_ROWS = 20  # of a level that gets slopes
MOST_SHARE = 0.95  # a level of nearly all rows has the common slopes
MOST_LEVELS = 64
SCALE = 1.0  # prior deviation of a slope relative to a common weight


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels with slopes (identity columns, (levels,)) and what standardises the structure, each (d,).

    `stretch` multiplies the standardised structure, to undo what the learner's scale of sparse columns does.
    """

    columns: Ints
    mean: Floats
    deviation: Floats
    stretch: float

    @property
    def width(self) -> int:
        """Sparse columns that the slopes take."""
        return len(self.columns) * len(self.mean)

    def rows(self, found: Sequence[features.Features], base: Sparse) -> Sparse:
        """`base` with the slopes' columns appended."""
        if not len(self.columns):
            return base
        place = {column: index for index, column in enumerate(self.columns.tolist())}
        offsets = base.width + np.arange(len(self.mean))
        parts = []
        for row, each in enumerate(found):
            mine = slice(base.starts[row], base.starts[row + 1])
            at = [place[column] for column in each.columns[each.words :].tolist() if column in place]
            columns = (offsets + index * len(offsets) for index in at)
            slopes = self.stretch * (each.dense - self.mean) / self.deviation
            parts.append(
                (
                    np.concatenate((base.indices[mine], *columns)),
                    np.concatenate((base.values[mine], *([slopes] * len(at)))),
                )
            )
        return Sparse.of(parts, base.width + self.width)

    def split(self, fitted: Linear) -> tuple[Linear, Floats]:
        """The fit without the slopes' columns, and the slopes for raw structure, shape (levels, d).

        Each level's intercept takes up the mean that its slopes were centred by.
        """
        if fitted.table is None:
            return fitted, np.zeros((len(self.columns), len(self.mean)))
        table = fitted.table[: features.WIDTH].copy()
        slopes = fitted.table[features.WIDTH :].reshape(len(self.columns), len(self.mean))
        slopes = self.stretch * slopes / self.deviation
        table[self.columns] -= slopes @ self.mean
        return Linear(fitted.bias, fitted.dense, table), slopes


def choose(found: Sequence[features.Features], dense: Floats, sparse_scale: float) -> Levels:
    """The levels with enough rows, the most frequent first; `sparse_scale` is the learner's."""
    identity = np.concatenate([each.columns[each.words :] for each in found])
    columns, counts = np.unique(identity, return_counts=True)
    fit = (counts >= FEWEST_ROWS) & (counts <= MOST_SHARE * len(found))
    order = np.argsort(-counts[fit], kind="stable")[:MOST_LEVELS]
    deviation = dense.std(axis=0)
    return Levels(
        columns[fit][order], dense.mean(axis=0), np.where(deviation > 1e-9, deviation, np.inf), SCALE / sparse_scale
    )
