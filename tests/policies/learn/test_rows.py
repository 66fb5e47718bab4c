"""Sparse rows against dense ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policies.learn.rows import Rows, Sparse

WIDTH = 7
ROWS = st.lists(st.dictionaries(st.integers(0, WIDTH - 1), st.floats(-5, 5), max_size=WIDTH), min_size=1, max_size=9)


def sparse(rows: list[dict[int, float]]) -> Sparse:
    return Sparse.of([(np.array(list(row), dtype=np.int64), np.array(list(row.values()))) for row in rows], WIDTH)


def full(rows: list[dict[int, float]]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    matrix = np.zeros((len(rows), WIDTH))
    for place, row in enumerate(rows):
        matrix[place, list(row)] = list(row.values())
    return matrix


@given(ROWS)
def test_a_product_is_that_of_the_full_matrix(rows: list[dict[int, float]]) -> None:
    table = np.arange(WIDTH * 2, dtype=np.float64).reshape(WIDTH, 2)
    np.testing.assert_allclose(sparse(rows).dot(table), full(rows) @ table, atol=1e-9)
    np.testing.assert_allclose(sparse(rows).dot(table[:, 1]), full(rows) @ table[:, 1], atol=1e-9)


@given(ROWS, st.data())
def test_taken_rows_are_those_rows_in_that_order(rows: list[dict[int, float]], data: st.DataObject) -> None:
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)), dtype=np.int64)
    taken = Rows(np.arange(len(rows))[:, None].astype(float), sparse(rows)).take(chosen)
    assert taken.dense[:, 0].tolist() == chosen.tolist()
    assert taken.sparse is not None
    np.testing.assert_allclose(taken.sparse.dot(np.eye(WIDTH)), full(rows)[chosen], atol=1e-9)
