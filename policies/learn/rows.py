"""What the learners take: dense columns and, beside them, sparse ones, of n requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sparse:
    """Rows in compressed form: row i holds columns `indices[starts[i]:starts[i + 1]]`, all below `width`."""

    starts: Ints
    indices: Ints
    values: Floats
    width: int

    @classmethod
    def of(cls, rows: Sequence[tuple[Ints, Floats]], width: int) -> Sparse:
        """From each row's columns and values."""
        lengths = [len(indices) for indices, _ in rows]
        return cls(
            starts=np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))),
            indices=np.concatenate([indices for indices, _ in rows] or [np.zeros(0, np.int64)]),
            values=np.concatenate([values for _, values in rows] or [np.zeros(0)]),
            width=width,
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, rows: Ints) -> Sparse:
        """The chosen rows, in that order."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate(([0], np.cumsum(lengths)))
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Sparse(starts, self.indices[places], self.values[places], self.width)

    def dot(self, table: NDArray[np.floating]) -> Floats:
        """Each row times `table` of shape (width,) or (width, k); shape (n,) or (n, k)."""
        gathered = table.take(self.indices, axis=0).astype(np.float64)
        values = self.values if gathered.ndim == 1 else self.values[:, None]
        sums = np.concatenate((np.zeros((1, *gathered.shape[1:])), np.cumsum(gathered * values, axis=0)))
        return np.asarray(sums[self.starts[1:]] - sums[self.starts[:-1]])


@dataclass(frozen=True, slots=True)
class Rows:
    """`dense` is (n, d), finite. `sparse` has n rows too, or is None."""

    dense: Floats
    sparse: Sparse | None = None

    def __len__(self) -> int:
        return len(self.dense)

    def take(self, rows: Ints) -> Rows:
        """The chosen rows, in that order."""
        return Rows(self.dense[rows], self.sparse.take(rows) if self.sparse is not None else None)
