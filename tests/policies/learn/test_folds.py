"""Folds: groups stay together, classes are spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.learn import folds


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "d"]), st.booleans()), min_size=12), st.integers(0, 9))
def test_no_group_stands_in_two_folds(examples: list[tuple[str, bool]], seed: int) -> None:
    groups = [group or f"own {place}" for place, (group, _) in enumerate(examples)]
    if len(set(groups)) < 3:
        return
    fold = folds.assign(groups, [label for _, label in examples], 3, seed)
    assert all(len({fold[place] for place, other in enumerate(groups) if other == group}) == 1 for group in set(groups))


@given(st.lists(st.booleans(), min_size=5, max_size=60), st.integers(0, 9))
def test_every_fold_has_its_share_of_each_class(labels: list[bool], seed: int) -> None:
    fold = folds.assign([""] * len(labels), labels, 5, seed)
    for label in (False, True):
        counts = np.bincount(fold[np.array(labels) == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_a_seed_gives_the_same_folds_and_another_seed_others() -> None:
    once, again, other = (folds.assign([""] * 40, [0] * 40, 5, seed).tolist() for seed in (1, 1, 2))
    assert once == again != other


def test_each_example_is_held_out_once() -> None:
    fold = folds.assign([""] * 11, [0] * 11, 4)
    held_out = np.concatenate([left_out for _, left_out in folds.splits(fold)])
    assert sorted(held_out.tolist()) == list(range(11))
    assert all(not np.intersect1d(kept, left_out).size for kept, left_out in folds.splits(fold))


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="5 folds need at least 5 groups, got 2"):
        folds.assign(["a", "a", "b"], [0, 0, 1], 5)


@given(st.lists(st.sampled_from(["", "a", "b", "c"])), st.integers(0, 9))
def test_one_of_each_stands_for_as_many_as_its_group_has(groups: list[str], seed: int) -> None:
    places, sizes = folds.one_of_each(groups, seed)
    names = [group or f"own {place}" for place, group in enumerate(groups)]
    assert sorted(names[place] for place in places) == sorted(set(names))
    assert [names.count(names[place]) for place in places] == sizes.tolist()
    assert (np.diff(places) > 0).all()


def test_every_example_of_a_group_may_be_the_one_that_is_taken() -> None:
    taken = {int(folds.one_of_each(["a"] * 4, seed)[0][0]) for seed in range(60)}
    assert taken == {0, 1, 2, 3}


def test_groups_are_numbered_as_they_are_met_and_nameless_ones_apart() -> None:
    assert folds.numbered(["b", "", "a", "b", ""]).tolist() == [0, 1, 2, 0, 3]
