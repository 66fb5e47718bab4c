"""Logistic regression on dense and sparse columns."""

from __future__ import annotations

import numpy as np
import pytest

from policies.learn import extra, linear
from policies.learn.rows import Floats, Rows, Sparse

RANDOM = np.random.default_rng(0)
DENSE = RANDOM.normal(3.0, 2.0, size=(400, 3))
WORDS = Sparse.of([(np.array([place % 4]), np.ones(1)) for place in range(400)], 6)
TARGET = (RANDOM.random(400) < linear.sigmoid(DENSE[:, 0] - 3 + (np.arange(400) % 4 == 1))).astype(float)
ONES = np.ones(400)


def slope_at(model: linear.Linear, rows: Rows, target: Floats, weight: Floats, penalty: float) -> Floats:
    """The gradient of the documented objective by the standardised dense columns."""
    assert rows.sparse is None
    deviation = rows.dense.std(axis=0)
    residual = weight / weight.mean() * (linear.sigmoid(model.logits(rows)) - target)
    gradient: Floats = ((rows.dense - rows.dense.mean(axis=0)) / deviation).T @ residual
    gradient += penalty * model.dense * deviation
    return gradient


def test_the_fit_is_where_the_objective_is_flat() -> None:
    weight = RANDOM.uniform(0.5, 2.0, 400)
    model = linear.fit(Rows(DENSE), TARGET, weight, 5.0)
    np.testing.assert_allclose(slope_at(model, Rows(DENSE), TARGET, weight, 5.0), 0.0, atol=0.1)


def test_a_weight_of_two_is_the_row_twice() -> None:
    weight = np.where(np.arange(400) < 100, 2.0, 1.0)
    twice = np.concatenate((np.arange(400), np.arange(100)))
    rows = Rows(DENSE, WORDS)
    weighted = linear.fit(rows, TARGET, weight, 400 * 0.01)
    repeated = linear.fit(rows.take(twice), TARGET[twice], np.ones(500), 500 * 0.01)
    np.testing.assert_allclose(weighted.logits(rows), repeated.logits(rows), atol=0.05)


def test_a_soft_target_is_a_row_of_each_class() -> None:
    rows = Rows(np.zeros((10, 1)))
    model = linear.fit(rows, np.full(10, 0.3), np.ones(10), 1.0)
    np.testing.assert_allclose(linear.sigmoid(model.logits(rows)), 0.3, atol=1e-3)


def test_a_higher_penalty_brings_the_weights_closer_to_zero() -> None:
    path = linear.path(Rows(DENSE, WORDS), TARGET, ONES, [1000.0, 100.0, 10.0, 1.0])
    sizes = [float(np.abs(each.dense).sum()) for each in path]
    assert sizes == sorted(sizes)


def test_a_path_ends_where_a_fit_of_its_last_penalty_does() -> None:
    rows = Rows(DENSE, WORDS)
    walked = linear.path(rows, TARGET, ONES, [100.0, 10.0])[-1]
    np.testing.assert_allclose(walked.logits(rows), linear.fit(rows, TARGET, ONES, 10.0).logits(rows), atol=0.01)


def test_a_column_seen_in_one_row_only_gets_no_weight_and_one_that_tells_gets_its_sign() -> None:
    once = Sparse.of([(np.array([place % 4 if place else 5]), np.ones(1)) for place in range(400)], 6)
    model = linear.fit(Rows(DENSE, once), TARGET, ONES, 1.0)
    assert model.table is not None
    assert model.table[5] == 0.0 and model.table[1] > max(model.table[0], model.table[2], model.table[3])


def test_a_constant_column_changes_nothing() -> None:
    with_constant = Rows(np.column_stack((DENSE, np.full(400, 7.0))))
    plain = linear.fit(Rows(DENSE), TARGET, ONES, 10.0)
    np.testing.assert_allclose(
        linear.fit(with_constant, TARGET, ONES, 10.0).logits(with_constant), plain.logits(Rows(DENSE)), atol=1e-6
    )


def test_one_number_has_the_sigmoid_of_an_array_and_extremes_do_not_overflow() -> None:
    extremes = [-1e9, -3.0, 0.0, 2.5, 1e9]
    one_by_one = [linear.sigmoid_of(each) for each in extremes]
    np.testing.assert_allclose(one_by_one, linear.sigmoid(np.array(extremes)), rtol=1e-12)


def test_a_missing_library_is_named_with_the_command_that_brings_it() -> None:
    with pytest.raises(
        extra.TrainingNotInstalled, match=r"needs no_such_library .* pip install 'distill-router\[learn\]'"
    ):
        extra.library("no_such_library.part")
