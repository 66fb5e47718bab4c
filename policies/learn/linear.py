"""Weighted logistic regression on dense and sparse columns with an L2 penalty; soft targets in [0, 1] are fine.

Dense columns are standardised for the penalty and the fit; the fitted model takes them raw.
Needs scipy to fit and numpy to predict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.learn.extra import scipy_optimize, scipy_sparse
from policies.learn.rows import Floats, Ints, Rows, Sparse

MIN_ROWS_A_COLUMN = 2  # a sparse column seen in fewer training rows is left out
ITERATIONS = 60


@dataclass(frozen=True, slots=True)
class Linear:
    """logit = bias + dense · `dense` + sparse · `table`. `table` is None where no sparse columns were fitted."""

    bias: float
    dense: Floats
    table: Floats | None = None

    def logits(self, rows: Rows) -> Floats:
        """Shape (n,)."""
        out = rows.dense @ self.dense + self.bias
        return out + rows.sparse.dot(self.table) if self.table is not None and rows.sparse is not None else out


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))


def sigmoid_of(logit: float) -> float:
    """`sigmoid` of one number."""
    return 0.5 * (1.0 + math.tanh(0.5 * logit))


def fit(rows: Rows, target: Floats, weight: Floats, penalty: float, sparse_scale: float = 1.0) -> Linear:
    """Minimises sum_i w_i [softplus(z_i) - y_i z_i] + penalty / 2 (|dense|^2 + |table / sparse_scale|^2).

    Over standardised dense columns; the bias is free. `weight` is (n,), any scale: it is brought to mean 1.
    """
    return Path(rows, target, weight, sparse_scale).next(penalty)


def path(
    rows: Rows, target: Floats, weight: Floats, penalties: Sequence[float], sparse_scale: float = 1.0
) -> list[Linear]:
    """`fit` for each penalty, each begun from the solution before: give them in falling order."""
    solver = Path(rows, target, weight, sparse_scale)
    return [solver.next(penalty) for penalty in penalties]


class Path:
    """Fits of the same examples with one penalty after the other, each begun from the solution before."""

    def __init__(self, rows: Rows, target: Floats, weight: Floats, sparse_scale: float = 1.0) -> None:
        self._problem = _Problem(rows, target, weight, sparse_scale)
        self._at = np.zeros(self._problem.size)

    def next(self, penalty: float) -> Linear:
        """`fit` with this penalty."""
        self._at = self._problem.solve(self._at, penalty)
        return self._problem.linear(self._at)


class _Problem:
    """The columns that vary, as one scipy matrix, and the way back to the raw ones."""

    def __init__(self, rows: Rows, target: Floats, weight: Floats, sparse_scale: float) -> None:
        self._mean = rows.dense.mean(axis=0)
        deviation = rows.dense.std(axis=0)
        self._deviation = np.where(deviation > 1e-9, deviation, np.inf)
        self._dense = (rows.dense - self._mean) / self._deviation
        self._target, self._weight = target, weight / weight.mean()
        self._scale = sparse_scale
        self._width = rows.sparse.width if rows.sparse is not None else None
        self._kept: Ints | None = None
        self._matrix: Any = None
        if rows.sparse is not None:
            self._kept, self._matrix = _compact(rows.sparse, sparse_scale)
        self._transposed = self._matrix.T.tocsr() if self._matrix is not None else None
        self._d = rows.dense.shape[1]
        self.size = 1 + self._d + (0 if self._kept is None else len(self._kept))

    def solve(self, start: Floats, penalty: float) -> Floats:
        """L-BFGS from `start`."""
        result = scipy_optimize().minimize(
            self._objective,
            start,
            args=(penalty,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": ITERATIONS, "ftol": 1e-7, "gtol": 1e-4},
        )
        return np.asarray(result.x)

    def _objective(self, at: Floats, penalty: float) -> tuple[float, Floats]:
        logits = at[0] + self._dense @ at[1 : 1 + self._d]
        if self._matrix is not None:
            logits = logits + self._matrix @ at[1 + self._d :]
        losses = np.logaddexp(0.0, logits) - self._target * logits
        slope = self._weight * (sigmoid(logits) - self._target)
        gradient = np.empty_like(at)
        gradient[0] = slope.sum()
        gradient[1 : 1 + self._d] = self._dense.T @ slope
        if self._transposed is not None:
            gradient[1 + self._d :] = self._transposed @ slope
        gradient[1:] += penalty * at[1:]
        return float(self._weight @ losses + 0.5 * penalty * (at[1:] @ at[1:])), gradient

    def linear(self, at: Floats) -> Linear:
        """The solution in terms of raw columns."""
        dense = at[1 : 1 + self._d] / self._deviation
        table = None
        if self._kept is not None and self._width is not None:
            table = np.zeros(self._width)
            table[self._kept] = at[1 + self._d :] * self._scale
        return Linear(float(at[0] - self._mean @ dense), dense, table)


def _compact(sparse: Sparse, scale: float) -> tuple[Ints, Any]:
    """The columns seen in enough rows, and a scipy CSR matrix of them alone."""
    seen = np.bincount(sparse.indices, minlength=sparse.width)
    kept = np.flatnonzero(seen >= MIN_ROWS_A_COLUMN)
    place = np.full(sparse.width, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    mapped = place[sparse.indices]
    keep = mapped >= 0
    starts = np.concatenate(([0], np.cumsum(keep)))[sparse.starts]
    matrix = scipy_sparse().csr_array(
        (sparse.values[keep] * scale, mapped[keep], starts), shape=(len(sparse), len(kept))
    )
    return kept, matrix
