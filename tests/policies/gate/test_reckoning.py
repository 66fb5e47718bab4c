"""What is made of an answer's arithmetic: its errors, where its numbers come from, and what it ends in."""

from __future__ import annotations

import math

import pytest

from policies.gate import reckoning
from policies.gate.arithmetic import equations, plain
from policies.learn.text import words


def features(request: str, answer: str) -> dict[str, float]:
    readable = plain(answer)
    said = reckoning.numbers(readable)
    values = reckoning.features(
        reckoning.numbers(request),
        reckoning.spoken(words(request)),
        equations(readable),
        said,
        reckoning.final_of(answer, said),
    )
    assert len(values) == len(reckoning.NAMES)
    return dict(zip(reckoning.NAMES, values, strict=True))


REQUEST = "Natalia sold 48 clips in April and half as many in May. How many in all, at $1.50 each?"
RIGHT = "In May 48/2 = 24. Together 48+24 = 72. 72 * 1.50 = 108\n#### 108"


def test_a_sound_calculation_has_no_faults() -> None:
    found = features(REQUEST, RIGHT)
    assert (found["equations"], found["wrong"], found["gross"], found["wrong_last"]) == (3, 0, 0, 0)
    assert (found["unexplained"], found["request_unused"], found["results_unused"]) == (0, 0, 0)
    assert (found["final_marked"], found["final_is_last_result"], found["final_is_whole"]) == (1, 1, 1)
    assert (found["plus"], found["minus"], found["times"], found["divided"]) == (1, 0, 1, 1)


def test_a_wrong_equation_is_counted_and_a_last_one_told() -> None:
    found = features(REQUEST, RIGHT.replace("= 108", "= 118"))
    assert (found["wrong"], found["gross"], found["wrong_last"]) == (1, 1, 1)
    assert found["final_is_result"] == 0


def test_a_number_from_nowhere_is_unexplained() -> None:
    found = features(REQUEST, "48 * 37 = 1776\n#### 1776")
    assert found["unexplained"] == 1
    assert found["operands_unexplained"] == 0.5


def test_numbers_of_the_request_that_no_equation_uses_are_counted() -> None:
    found = features("A shop has 5 cats, 7 dogs and 9 birds. How many legs?", "5 + 7 = 12")
    assert found["request_unused"] == 1
    assert found["request_unmentioned"] == pytest.approx(1 / 3)


def test_a_result_that_nothing_uses_is_counted() -> None:
    assert features("2 3 4", "2 * 3 = 6. 3 * 4 = 12. 2 + 2 = 4\n#### 4")["results_unused"] == 2


def test_an_answer_without_equations_is_no_answer_with_wrong_ones() -> None:
    found = features(REQUEST, "It is 108.")
    assert found["equations"] == 0
    assert math.isnan(found["wrong_share"])
    assert math.isnan(found["request_unused"])


def test_a_request_without_numbers_has_no_share_of_them() -> None:
    assert math.isnan(features("Why is the sky blue?", "Rayleigh.")["request_unused_share"])


@pytest.mark.parametrize(
    ("answer", "value", "marked"),
    [
        ("so 5\n#### 72\n\n", 72.0, True),
        ("so 5. #### -72", -72.0, True),
        ("Thus \\boxed{1,234}", 1234.0, True),
        ("The answer is $12.50.", 12.5, True),
        ("**Answer:** 7", 7.0, True),
        ("They need 3 boxes and 9 bags.", 9.0, False),
        ("No idea.", None, False),
    ],
)
def test_the_number_that_an_answer_ends_in(answer: str, value: float | None, marked: bool) -> None:
    final = reckoning.final_of(answer, reckoning.numbers(answer))
    assert (final.value, final.marked) == (value, marked)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3 apples, 1,250 pears and .5 of 2.75.", [3.0, 1250.0, 0.5, 2.75]),
        ("... 1.2.3 and 1234567890123456789012", [1.2, 0.3]),
        ("", []),
    ],
)
def test_numbers_are_read_as_written(text: str, found: list[float]) -> None:
    assert [number for number in reckoning.numbers(text) if number < 1e9] == found


def test_numbers_in_words_are_read_with_fractions_as_their_denominator() -> None:
    assert reckoning.spoken(words("Twice a dozen, half of seven and one second")) == [2.0, 12.0, 2.0, 7.0]
