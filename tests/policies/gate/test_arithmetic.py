"""The equations that an answer shows: which are read, whether they hold, and what is left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gate.arithmetic import MOST_EQUATIONS, Equation, equations, plain

SMALL = st.integers(1, 500)


def read(text: str) -> list[Equation]:
    return equations(plain(text))


@pytest.mark.parametrize(
    "text",
    [
        "He runs 3 * 60 = 180 meters.",
        "3 sprints x 60 meters = 180",
        "So 12 - 5 = $7, as said",
        "1,200 × 2/5 = $480",
        "\\( \\frac{3}{4} \\times 20 = 15 \\)",
        "**Total:** 4 \\* 5 = 20",
        "- 10 + 5 = 15",
        "20% of 50 = 10",
        "12 / 20 = 60%",
        "10 / 3 = 3.33",
        "10 / 3 ≈ 3",
        "3 dozen * 2 = 72",
        "10 divided by 4 = 2.5",
        "3 hours times 2 = 6",
        "(3 + 4 = 7)",
        "The 4 (boys) + 2 = 6",
        "x = 30 / 6 = 5",
        "costs 3 x (4 + 1) = 15 dollars",
        "<<48/2=24>>",
        "the 3rd and 2 + 2 = 4",
        "5 shirts * $12/shirt = $60",
        "\\(60 \\, \\text{km/h} \\times 2.5 \\, \\text{hours} = 150 \\, \\text{km}\\)",
        "Total = 2(3 + 4) = 14",
    ],
)
def test_an_equation_that_holds_is_read_as_right(text: str) -> None:
    assert [equation.error for equation in read(text)] == [0.0]


@pytest.mark.parametrize(
    "text",
    [
        "3 * 60 = 190",
        "10 / 3 = 3",
        "10 / 3 = 3.30",
        "5 * ($5.00 * 5 + $6.00 * 1) = $125 per week",
        "150 - 50 x 14 = 550",
        "<<38*216=8128>>8128",
        "12 / 20 = 55%",
        "3 dozen * 2 = 6",
    ],
)
def test_an_equation_that_does_not_hold_is_read_as_wrong(text: str) -> None:
    (equation,) = read(text)
    assert equation.error > 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 5",
        "4x + 2 = 10",
        "80 + 2x + 2 * 80 = 1920",
        "75 - 35 = 5C - 3C",
        "cost + 5 + 3 = 10",
        "5 = 5",
        "3 apples and 4 pears",
        "a = b + c",
        "= = =",
        "5 / 0 = 1",
        "2024-01-02",
        "7:30 + 2 = 9:30",
        "10 / x = 5",
        "12345678901234567890 + 1 = 2",
    ],
)
def test_what_cannot_be_checked_is_left_out(text: str) -> None:
    assert read(text) == []


def test_a_chain_is_checked_link_by_link() -> None:
    found = read("2 + 3 * 4 = 2 + 12 = 15")
    assert [(equation.left, equation.right, equation.error > 0) for equation in found] == [
        (14, 14, False),
        (14, 15, True),
    ]


def test_a_result_that_is_reckoned_on_is_right_for_what_it_first_says() -> None:
    assert [equation.error for equation in read("6 * 6 = 36 / 12 = 3")] == [0.0, 0.0]


def test_a_calculator_mark_and_the_equation_around_it_are_both_read() -> None:
    found = read("He runs 3 x 60 = <<3*60=180>>180 meters")
    assert [(equation.mark, equation.error) for equation in found] == [(False, 0.0), (True, 0.0)]


def test_a_unit_between_the_numbers_is_said() -> None:
    (plainly,), (worded,) = read("4 + 3 = 7"), read("4 feet + 3 inches = 51")
    assert (plainly.worded, worded.worded) == (False, True)


def test_equations_of_several_sentences_come_in_their_order() -> None:
    found = read("First 2 * 3 = 6. Then 6 + 4 = 10, so 10 / 2 = 5\n#### 5")
    assert [equation.right for equation in found] == [6, 10, 5]
    assert [equation.operands for equation in found] == [(2, 3), (6, 4), (10, 2)]
    assert "".join(equation.signs for equation in found) == "*+/"


def test_a_calculator_mark_stands_where_it_was_written() -> None:
    found = read("He runs 3 x 60 = <<3*60=180>>180 meters\nSo 180 x 3 = <<180*3=540>>540 a week")
    assert [equation.right for equation in found] == [180, 180, 540, 540]


def test_of_a_text_full_of_equations_the_first_are_read() -> None:
    assert len(read("1 + 1 = 2\n" * 500)) == MOST_EQUATIONS


@given(SMALL, st.sampled_from("+-*/"), SMALL, st.integers(-3, 3))
def test_exactly_the_right_result_is_right(left: int, sign: str, right: int, off: int) -> None:
    exact = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[sign]
    if sign == "/":
        left = exact * right
    (equation,) = read(f"Then {left} {sign} {right} = {exact + off} of them.")
    assert (equation.error == 0) == (off == 0)


@given(st.text(st.sampled_from("0123456789+-*/^()%=<>≈.,$ \nxa\\{}"), max_size=80))
def test_no_text_is_too_odd_to_read(text: str) -> None:
    for equation in read(text):
        assert 0 <= equation.error <= 1e6
        assert equation.signs
