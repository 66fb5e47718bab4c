"""Trees served from arrays against LightGBM itself."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from policies.learn import trees
from policies.learn.rows import Floats

RANDOM = np.random.default_rng(0)


def table(rows: int, missing: float) -> Floats:
    dense = RANDOM.normal(size=(rows, 6))
    dense[RANDOM.random(dense.shape) < missing] = np.nan
    dense[:, 5] = np.nan_to_num(dense[:, 5])  # a column that has no NaN in training
    return dense


TRAIN = table(600, 0.1)
TARGET = (np.nan_to_num(TRAIN[:, 0]) + TRAIN[:, 5] ** 2 + RANDOM.normal(size=600) > 1).astype(float)
UNSEEN = np.concatenate((RANDOM.normal(size=(200, 6)), np.full((1, 6), np.nan), table(200, 0.5)))
SETTINGS = {"objective": "cross_entropy", "num_leaves": 12, "num_threads": 1, "verbosity": -1, "deterministic": True}


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    return lightgbm.train(SETTINGS, lightgbm.Dataset(TRAIN, label=TARGET), num_boost_round=40)


@pytest.fixture(scope="module")
def forest(booster: lightgbm.Booster) -> trees.Forest:
    return trees.flatten(booster.dump_model()["tree_info"])


def test_the_arrays_give_exactly_what_the_booster_gives_missing_values_included(
    booster: lightgbm.Booster, forest: trees.Forest
) -> None:
    assert forest.logits(UNSEEN).tolist() == np.asarray(booster.predict(UNSEEN, raw_score=True)).tolist()


def test_one_row_gets_exactly_what_it_gets_among_others(forest: trees.Forest) -> None:
    assert [forest.logit(row) for row in UNSEEN] == forest.logits(UNSEEN).tolist()


def test_the_first_trees_are_the_booster_stopped_early(booster: lightgbm.Booster, forest: trees.Forest) -> None:
    early = np.asarray(booster.predict(UNSEEN, raw_score=True, num_iteration=7))
    assert forest.first(7).logits(UNSEEN).tolist() == early.tolist()
    assert forest.first(0).logits(UNSEEN).tolist() == [0.0] * len(UNSEEN)
    assert forest.first(0).logit(UNSEEN[0]) == 0.0


def test_a_tree_that_found_no_split_gives_its_one_value() -> None:
    growth = trees.Growth(rounds=3, leaf_rows=500)
    grown = trees.grow(TRAIN, TARGET, np.ones(600), growth)
    np.testing.assert_allclose(grown.logits(UNSEEN), np.log(TARGET.mean() / (1 - TARGET.mean())), atol=1e-6)


def test_a_forest_survives_the_file(forest: trees.Forest) -> None:
    read = trees.Forest.of(forest.tensors("t."), "t.")
    assert read.logits(UNSEEN).tolist() == forest.logits(UNSEEN).tolist()


@pytest.mark.parametrize("part", ["column", "limit", "children", "nan_right", "value"])
def test_arrays_of_other_lengths_are_no_trees(forest: trees.Forest, part: str) -> None:
    tensors = forest.tensors("t.")
    with pytest.raises(ValueError, match=r"'t\.\*' are no trees"):
        trees.Forest.of(tensors | {f"t.{part}": tensors[f"t.{part}"][:-1]}, "t.")


@pytest.mark.parametrize(
    ("part", "number"), [("roots", 10**6), ("children", -1), ("children", 10**6), ("column", -1), ("depth", 10**9)]
)
def test_a_step_that_leads_nowhere_or_never_ends_is_refused(forest: trees.Forest, part: str, number: int) -> None:
    tensors = forest.tensors("t.")
    wrong = tensors[f"t.{part}"].copy()
    wrong.reshape(-1)[-1] = number
    with pytest.raises(ValueError, match=r"'t\.\*' are no trees"):
        trees.Forest.of(tensors | {f"t.{part}": wrong}, "t.")


def test_growing_is_deterministic_for_a_seed() -> None:
    growth = trees.Growth(rounds=10)
    once, again = (trees.grow(TRAIN, TARGET, np.ones(600), growth, seed=3) for _ in range(2))
    assert once.logits(UNSEEN).tolist() == again.logits(UNSEEN).tolist()


def test_trees_begin_from_the_logits_that_are_given() -> None:
    right = np.where(TARGET > 0.5, 30.0, -30.0)
    grown = trees.grow(TRAIN, TARGET, np.ones(600), trees.Growth(rounds=10), start=right)
    np.testing.assert_allclose(grown.logits(UNSEEN), 0.0, atol=1e-6)


def test_no_rows_give_no_logits(forest: trees.Forest) -> None:
    assert forest.logits(np.zeros((0, 6))).shape == (0,)


def test_a_split_on_a_category_is_refused() -> None:
    with pytest.raises(ValueError, match="splits on a category"):
        trees.flatten([{"tree_structure": {"split_feature": 0, "decision_type": "=="}}])
