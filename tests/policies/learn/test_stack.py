"""Shares of models in an average of logits."""

from __future__ import annotations

import numpy as np
import pytest

from policies.learn import calibrate, stack
from policies.learn.linear import sigmoid
from policies.learn.rows import Floats

RANDOM = np.random.default_rng(0)
SIGNAL = RANDOM.normal(size=(2, 4_000))  # two views of which each sees a half of what decides
TARGET = (RANDOM.random(4_000) < sigmoid(SIGNAL.sum(axis=0))).astype(float)
NOISE = RANDOM.normal(size=4_000)
ONES = np.ones(4_000)


def loss(logits: Floats) -> float:
    return calibrate.log_loss(sigmoid(logits), TARGET, ONES)


def test_models_that_see_different_things_are_better_together_than_the_best_of_them() -> None:
    shares = stack.stacked(2 * SIGNAL, TARGET, ONES)
    np.testing.assert_allclose(shares, 0.5, atol=0.05)
    assert loss(shares @ (2 * SIGNAL)) < min(map(loss, SIGNAL)) - 0.05


def test_a_model_that_knows_nothing_counts_little() -> None:
    shares = stack.stacked(np.array([SIGNAL.sum(axis=0), 3 * NOISE]), TARGET, ONES)
    assert shares.sum() == pytest.approx(1) and shares[1] < 0.05


def test_no_other_shares_are_better_by_likelihood_and_prior() -> None:
    logits = np.array([2 * SIGNAL[0], 1.5 * SIGNAL[1], SIGNAL.sum(axis=0) + NOISE])

    def cost(shares: Floats) -> float:
        return 4_000 * loss(shares @ logits) - stack.PULL * float(np.log(shares).sum())

    found = stack.stacked(logits, TARGET, ONES)
    near = np.abs(found + RANDOM.normal(size=(300, 3)) * 0.02)
    others = np.concatenate((RANDOM.dirichlet(np.ones(3), size=300), near / near.sum(axis=1, keepdims=True)))
    assert cost(found) <= min(map(cost, others)) + 0.01


@pytest.mark.parametrize("count", [3, 30])
def test_few_examples_leave_models_nearly_equal(count: int) -> None:
    few = slice(0, count)
    shares = stack.stacked(np.array([SIGNAL[0, few], NOISE[few]]), TARGET[few], ONES[few])
    assert abs(shares[0] - 0.5) < 0.3
    assert abs(stack.stacked(np.array([SIGNAL[0], NOISE]), TARGET, ONES)[0] - 0.5) > 0.35


def test_only_how_the_weights_compare_counts() -> None:
    logits, weight = np.array([SIGNAL[0], NOISE]), RANDOM.uniform(0.5, 2.0, 4_000)
    once, scaled = stack.stacked(logits, TARGET, weight), stack.stacked(logits, TARGET, 1_000 * weight)
    np.testing.assert_allclose(once, scaled, atol=1e-6)


def test_a_row_that_stands_for_nearly_all_is_hardly_more_than_one() -> None:
    weight = np.where(np.arange(4_000) == 0, 1e9, 1.0)
    np.testing.assert_allclose(stack.stacked(np.array([SIGNAL[0], NOISE]), TARGET, weight), 0.5, atol=0.2)


def test_models_that_say_the_same_share_alike_and_one_alone_has_all() -> None:
    np.testing.assert_allclose(stack.stacked(np.tile(SIGNAL[0], (3, 1)), TARGET, ONES), 1 / 3, atol=1e-4)
    assert stack.stacked(SIGNAL[:1], TARGET, ONES).tolist() == [1.0]


def test_hopeless_logits_do_not_break_the_shares() -> None:
    shares = stack.stacked(np.array([SIGNAL[0], np.where(TARGET > 0.5, -500.0, 500.0)]), TARGET, ONES)
    assert np.isfinite(shares).all() and shares[0] > 0.99


def test_by_likelihood_the_best_of_many_examples_is_alone_and_of_few_all_count() -> None:
    losses = np.array([0.50, 0.51, 0.60])
    assert stack.by_likelihood(losses, np.ones(10_000)).tolist() == [1.0, 0.0, 0.0]
    few = stack.by_likelihood(losses, np.ones(20))
    assert few.sum() == pytest.approx(1) and few[0] / few[1] == pytest.approx(np.exp(20 * 0.01))


def test_a_share_of_less_than_a_hundredth_is_none() -> None:
    assert stack.by_likelihood(np.array([0.5, 0.5, 1.0]), np.ones(20)).tolist() == [0.5, 0.5, 0.0]
