"""From labels to slices: which are kept, and which are one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policies.slices import ALIKE, Slice, jaccard, label_slices, merge

LABELS = st.lists(st.sets(st.sampled_from("abcdef")), min_size=1, max_size=40)


def members(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text])


def test_a_label_on_too_few_pairs_or_on_nearly_all_is_no_slice() -> None:
    labels = [{"all", "half" if number % 2 else "other", "rare" if number < 4 else "common"} for number in range(20)]
    assert {each.name for each in label_slices(labels, fewest=5)} == {"half", "other", "common"}


def test_the_most_frequent_labels_are_kept() -> None:
    labels = [{"a"} | ({"b"} if number < 6 else set()) | ({"c"} if number < 5 else set()) for number in range(12)]
    assert [each.name for each in label_slices(labels, fewest=5, largest_share=1.0, most=2)] == ["a", "b"]


@given(LABELS)
def test_a_slice_holds_the_pairs_that_carry_its_label(labels: list[set[str]]) -> None:
    for each in label_slices(labels, fewest=1, largest_share=1.0):
        assert each.members.tolist() == [each.name in carried for carried in labels]


def test_nearly_equal_slices_become_the_most_readable_one() -> None:
    nearly = [
        Slice("long name", members("x" * 19 + ".")),
        Slice("short", members("x" * 20)),
        Slice("c", members("x" + "." * 19)),
    ]
    merged = merge(nearly, len)
    assert [(each.name, each.aliases) for each in merged] == [("c", ()), ("short", ("long name",))]


def test_slices_with_the_same_pairs_and_other_losses_stay_apart() -> None:
    both = members("xxxx")
    fields = [Slice("age", both, lost=members("xx..")), Slice("name", both, lost=members("..xx")), Slice("whole", both)]
    assert [each.name for each in merge(fields, str)] == ["age", "name", "whole"]
    assert len(merge([fields[0], Slice("years", both, lost=members("xx.."))], str)) == 1


@given(LABELS)
def test_merging_loses_no_name_and_leaves_no_two_alike(labels: list[set[str]]) -> None:
    slices = label_slices(labels, fewest=1, largest_share=1.0)
    merged = merge(slices, str)
    assert sorted(name for each in merged for name in (each.name, *each.aliases)) == sorted(s.name for s in slices)
    for place, one in enumerate(merged):
        assert all(jaccard(one.members, other.members) <= ALIKE for other in merged[place + 1 :])
