"""Weighted means: right without a model, sharper with one, and honest about requests that go together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.bounds import effective_sample_size, kish, self_normalised
from policies.replay.estimate import Population, doubly_robust, snips, time_blocks
from policies.replay.regression import cross_fitted

draws = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.floats(0.01, 1)), min_size=1, max_size=40)


@given(draws)
def test_the_self_normalised_mean_and_its_worth_are_those_of_the_bounds(found: list[tuple[float, float]]) -> None:
    values, chances = (np.array(each) for each in zip(*found, strict=True))
    means = snips(values[:, None], 1 / chances, np.arange(len(values)))
    assert means.values[0] == pytest.approx(self_normalised(values, chances))
    assert means.effective == pytest.approx(effective_sample_size(chances))


@given(draws, st.floats(-5, 5))
def test_a_constant_more_for_everyone_moves_the_mean_and_not_its_error(
    found: list[tuple[float, float]], more: float
) -> None:
    values, chances = (np.array(each) for each in zip(*found, strict=True))
    before, after = (snips(each[:, None], 1 / chances, np.arange(len(values))) for each in (values, values + more))
    assert after.values[0] == pytest.approx(before.values[0] + more)
    assert after.covariance() == pytest.approx(before.covariance(), abs=1e-12)


def test_saying_everything_twice_in_one_conversation_teaches_nothing() -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.random((200, 1)), 1 / rng.uniform(0.1, 1, 200)
    once = snips(values, weights, np.arange(200))
    twice = snips(np.vstack([values, values]), np.tile(weights, 2), np.tile(np.arange(200), 2))
    apart = snips(np.vstack([values, values]), np.tile(weights, 2), np.arange(400))
    assert twice.covariance() == pytest.approx(once.covariance(), rel=0.01)
    assert apart.covariance() == pytest.approx(once.covariance() / 2, rel=0.01)


@given(st.integers(1, 500), st.floats(0.001, 1))
def test_equal_weights_are_worth_exactly_as_many_draws(count: int, chance: float) -> None:
    assert kish(np.full(count, 1 / chance)) == count


def test_without_a_weight_there_is_no_mean() -> None:
    with pytest.raises(ValueError, match="no draw"):
        snips(np.ones((2, 1)), np.zeros(2), np.arange(2))
    assert kish(np.zeros(2)) == 0


def population(rng: np.random.Generator, features: int = 2) -> tuple[Population, np.ndarray, np.ndarray]:
    """2,000 requests, of which about a tenth is drawn; outcomes that are linear in the features."""
    known = rng.normal(size=(2000, features))
    outcomes = 3 + known @ np.arange(1, features + 1)
    drawn = np.flatnonzero(rng.random(2000) < 0.1)
    return Population(known, time_blocks(2000), np.arange(len(drawn)), drawn), outcomes, drawn


def test_what_the_features_tell_is_known_without_an_error_of_the_draw() -> None:
    seen, outcomes, drawn = population(np.random.default_rng(2))
    arguments = outcomes[drawn][:, None], np.ones(len(drawn)), np.arange(len(drawn))
    sharp, plain = doubly_robust(*arguments, seen), snips(*arguments)
    assert sharp.values[0] == pytest.approx(outcomes.mean(), abs=0.02)
    assert abs(plain.values[0] - outcomes.mean()) > 3 * abs(sharp.values[0] - outcomes.mean())
    # What is left is that the requests themselves are a draw of the traffic.
    assert sharp.covariance()[0, 0] == pytest.approx(outcomes.var() / 2000, rel=0.5)


def test_where_every_request_was_drawn_a_prediction_adds_nothing_to_the_error() -> None:
    rng = np.random.default_rng(12)
    known, clusters = rng.normal(size=(300, 2)), np.arange(300) // 3
    outcomes = known.sum(axis=1, keepdims=True) + rng.normal(size=(300, 1))
    everyone = np.arange(300)
    sharp = doubly_robust(outcomes, np.ones(300), clusters, Population(known, time_blocks(300), everyone, everyone))
    plain = snips(outcomes, np.ones(300), clusters)
    assert sharp.values == pytest.approx(plain.values, abs=0.005)
    assert sharp.covariance() == pytest.approx(plain.covariance(), rel=0.02)


def test_features_that_tell_nothing_do_no_harm() -> None:
    rng = np.random.default_rng(3)
    errors = []
    for _ in range(100):
        seen, _, drawn = population(rng)
        outcomes = rng.exponential(size=2000)
        arguments = outcomes[drawn][:, None], np.ones(len(drawn)), np.arange(len(drawn))
        sharp = doubly_robust(*arguments, seen)
        errors.append((sharp.values[0] - 1) / np.sqrt(sharp.covariance()[0, 0]))
    assert abs(np.mean(errors)) < 0.35 and 0.8 < np.std(errors) < 1.3


def test_requests_drawn_more_often_weigh_less() -> None:
    rng = np.random.default_rng(4)
    found = []
    for _ in range(100):
        known = rng.normal(size=(2000, 1))
        outcomes = (known[:, 0] + rng.normal(size=2000) > 1).astype(float)
        chance = np.where(known[:, 0] > 1, 0.5, 0.05)
        drawn = np.flatnonzero(rng.random(2000) < chance)
        seen = Population(np.zeros((2000, 1)), time_blocks(2000), np.arange(len(drawn)), drawn)
        means = doubly_robust(outcomes[drawn][:, None], 1 / chance[drawn], np.arange(len(drawn)), seen)
        found.append(means.values[0] - outcomes.mean())
    assert abs(np.mean(found)) < 3 * np.std(found) / 10


def test_no_request_is_predicted_from_its_own_outcome() -> None:
    rng = np.random.default_rng(5)
    known, outcomes, folds = rng.normal(size=(50, 3)), rng.normal(size=(50, 1)), np.arange(50) % 5
    before, _ = cross_fitted(known, outcomes, np.ones(50), folds, known)
    outcomes[7] = 1e6
    after, _ = cross_fitted(known, outcomes, np.ones(50), folds, known)
    assert after[folds == folds[7]] == pytest.approx(before[folds == folds[7]])
    assert after[8, 0] != pytest.approx(before[8, 0])


def test_a_single_fold_predicts_nothing() -> None:
    own, others = cross_fitted(
        np.ones((3, 1)), np.ones((3, 1)), np.ones(3), np.zeros(3, dtype=np.int64), np.ones((2, 1))
    )
    assert not own.any() and not others.any()


@given(st.integers(0, 500))
def test_time_blocks_are_as_even_as_they_can_be(count: int) -> None:
    blocks = time_blocks(count)
    assert len(blocks) == count and list(blocks) == sorted(blocks)
    sizes = np.bincount(blocks) if count else np.zeros(1)
    assert len(sizes) <= 50 and sizes.max() - sizes.min() <= 1
