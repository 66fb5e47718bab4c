"""Steps against the trees of one split that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.learn import trees
from policies.learn.rows import Floats
from policies.learn.steps import Steps, from_stumps

RANDOM = np.random.default_rng(0)
DENSE = np.round(RANDOM.normal(size=(500, 4)), 2)  # with ties at the limits
UNSEEN = np.concatenate((DENSE[:50], RANDOM.normal(size=(50, 4)) * 5))
STUMPS = trees.Growth(rounds=30, leaves=2, depth=1)


def grown(column: int) -> trees.Forest:
    target = (DENSE[:, column] + RANDOM.normal(size=500) > 0).astype(float)
    return trees.grow(DENSE, target, np.ones(500), STUMPS, seed=column)


def sums(steps: Steps) -> Floats:
    return np.array([steps.of(row) for row in UNSEEN])


@pytest.fixture(scope="module")
def forests() -> list[trees.Forest]:
    return [grown(0), grown(1)]


def test_a_constant_and_steps_give_what_the_trees_give(forests: list[trees.Forest]) -> None:
    constant, steps = from_stumps(forests[0], np.ones(30))
    np.testing.assert_allclose(constant + sums(steps)[:, 0], forests[0].logits(UNSEEN), atol=1e-12)


def test_trees_count_by_their_shares(forests: list[trees.Forest]) -> None:
    constant, steps = from_stumps(forests[0], np.where(np.arange(30) < 7, 0.25, 0.0))
    np.testing.assert_allclose(constant + sums(steps)[:, 0], 0.25 * forests[0].first(7).logits(UNSEEN), atol=1e-12)


def test_a_tree_without_a_split_is_all_constant() -> None:
    flat = trees.grow(DENSE, np.full(500, 0.3), np.ones(500), STUMPS)
    constant, steps = from_stumps(flat, np.ones(len(flat.roots)))
    assert constant == pytest.approx(np.log(0.3 / 0.7), abs=1e-6)
    assert steps.height.shape == (0, 1)


def test_side_by_side_each_keeps_its_sums_and_equal_steps_are_one(forests: list[trees.Forest]) -> None:
    each = [from_stumps(forest, np.ones(30))[1] for forest in forests]
    together = Steps.together([*each, Steps.none()])
    np.testing.assert_allclose(sums(together), np.hstack([*map(sums, each), np.zeros((100, 1))]), atol=1e-12)
    keys = set(zip(together.column.tolist(), together.limit.tolist(), strict=True))
    assert len(keys) == len(together.column) < sum(len(steps.column) for steps in each)


def test_no_steps_add_nothing() -> None:
    assert Steps.together([Steps.none(), Steps.none()]).of(UNSEEN[0]).tolist() == [0.0, 0.0]


STEP = st.tuples(st.integers(0, 3), st.floats(-3, 3), st.floats(-1, 1))


@settings(max_examples=50)
@given(st.lists(STEP, max_size=6))
def test_the_sum_is_that_of_the_heights_whose_limits_are_passed(steps: list[tuple[int, float, float]]) -> None:
    column, limit, height = (np.array([step[part] for step in steps]) for part in range(3))
    made = Steps(column.astype(np.int64), limit.astype(np.float64), height.astype(np.float64).reshape(-1, 1))
    for row in UNSEEN[:5]:
        expected = sum(step[2] for step in steps if row[step[0]] > step[1])
        assert made.of(row)[0] == pytest.approx(expected, abs=1e-12)


def test_steps_survive_the_file(forests: list[trees.Forest]) -> None:
    steps = Steps.together([from_stumps(forest, np.ones(30))[1] for forest in forests])
    read = Steps.read(steps.tensors("s."), "s.", columns=4, sums=2)
    assert sums(read).tolist() == sums(steps).tolist()


@pytest.mark.parametrize("part", ["column", "limit", "height"])
def test_arrays_of_other_lengths_are_no_steps(forests: list[trees.Forest], part: str) -> None:
    tensors = from_stumps(forests[0], np.ones(30))[1].tensors("s.")
    with pytest.raises(ValueError, match=r"'s\.\*' are no steps"):
        Steps.read(tensors | {f"s.{part}": tensors[f"s.{part}"][:-1]}, "s.", columns=4, sums=1)


@pytest.mark.parametrize(("columns", "count"), [(1, 1), (4, 2)])
def test_steps_of_columns_or_sums_that_are_not_there_are_refused(
    forests: list[trees.Forest], columns: int, count: int
) -> None:
    tensors = Steps(np.array([2]), np.zeros(1), np.ones((1, 1))).tensors("s.")
    with pytest.raises(ValueError, match=r"'s\.\*' are no steps"):
        Steps.read(tensors, "s.", columns=columns, sums=count)
