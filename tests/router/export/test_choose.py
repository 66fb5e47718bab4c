"""What the filters ask for, and how many of each sort are kept."""

from __future__ import annotations

import pytest

from router.evidence.records import PairRecord
from router.export.choose import Filters, balanced, few_of_each_cluster, group_of, verdict_of
from router.export.slices import kind_of, memberships, needs_all, slice_names
from tests.router.export.cases import AGREES, OTHER_TOOL, PLAIN, TOOLS, answer, example, made, user


def numbered(number: int, text: str) -> PairRecord:
    return made(number, {"messages": [user(text)]}, "a", "b")


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        (Filters(), None),
        (Filters(route="auto", split="all", since=PLAIN.time), None),
        (Filters(route="other"), "other_route"),
        (Filters(split="test"), "other_split"),
        (Filters(since=PLAIN.time + 1), "other_time"),
        (Filters(verdicts=("agree",)), "verdict_student_wrong"),
    ],
)
def test_a_record_is_asked_for_or_not_and_why(filters: Filters, reason: str | None) -> None:
    assert filters.refuses(PLAIN) == reason


def test_a_pair_that_agrees_is_left_out_unless_it_is_asked_for() -> None:
    assert Filters().refuses(AGREES) == "verdict_agree"
    assert Filters(verdicts=("agree",)).refuses(AGREES) is None


def test_what_a_person_said_of_an_agreeing_pair_counts() -> None:
    labelled = AGREES.model_copy(update={"triage": PLAIN.triage})
    assert verdict_of(labelled) == "student_wrong"


def test_a_teacher_that_failed_is_no_agreement() -> None:
    failed = AGREES.model_copy(update={"teacher": answer("teacher", error="status 500")})
    assert verdict_of(failed) is None
    assert Filters(verdicts=("agree",)).refuses(failed) == "no_verdict"


def test_the_newest_of_a_cluster_stay() -> None:
    same = [numbered(number, "What is the capital of France?") for number in range(4)]
    other = numbered(9, "Sort these words: b a c")
    examples = [example(record) for record in (*same, other)]
    assert few_of_each_cluster(examples, 1) == [False, False, False, True, True]
    assert few_of_each_cluster(examples, 3) == [False, True, True, True, True]


def test_balance_keeps_as_many_of_each_group_as_of_the_rarest_and_always_the_same() -> None:
    examples = [example(numbered(number, f"question {number}")) for number in range(30)]
    groups = ["a"] * 20 + ["b"] * 7 + ["c"] * 3
    kept = balanced(examples, groups)
    assert [sum(keep for keep, one in zip(kept, groups, strict=True) if one == name) for name in "abc"] == [3, 3, 3]
    again = balanced(examples[::-1], groups[::-1])
    assert again == kept[::-1]
    assert balanced([], []) == []


def test_a_group_is_the_first_slice_that_was_asked_for_or_the_kind_of_answer() -> None:
    names = slice_names(OTHER_TOOL)
    assert "tool:get_weather" in names
    assert group_of(example(OTHER_TOOL), names, ("tool:none", "tool:get_weather")) == "tool:get_weather"
    assert group_of(example(OTHER_TOOL), frozenset(), ()) == "kind:tool call" == kind_of(OTHER_TOOL)


def test_slices_that_need_all_pairs_are_told_from_all_pairs() -> None:
    assert needs_all(["topic:weather, city"]) and needs_all(["opening:sort & under 30 characters"])
    assert not needs_all(["tool:get_weather", "kind:json"])
    sorts = [numbered(n, f"sort {'apples and pears ' * (n % 2 * 5)}{n}") for n in range(20)]
    records = [*sorts, *(numbered(n, f"What is {n} times two?") for n in range(20, 40))]
    found = memberships([*records, TOOLS])
    assert any(needs_all([name]) for names in found for name in names)
    assert all(slice_names(record) <= names for record, names in zip(records, found, strict=False))
