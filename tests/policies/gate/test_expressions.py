"""Exact values of expressions: what they are, and what is refused instead of guessed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gate.expressions import Tokens, ratio_of, value_of

NUMBERS = st.integers(0, 999)
EXPRESSIONS = st.recursive(
    NUMBERS.map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({''.join(parts)})"),
    max_leaves=8,
)


def tokens(expression: str) -> Tokens:
    """Of an expression whose parts are single characters or runs of digits."""
    found: Tokens = []
    for sign in expression.replace(" ", ""):
        if sign.isdigit() and found and isinstance(found[-1], tuple):
            found[-1] = (found[-1][0] * 10 + int(sign), 1)
        else:
            found.append((int(sign), 1) if sign.isdigit() else sign)
    return found


def value(expression: str) -> Fraction | None:
    exact = value_of(tokens(expression))
    return None if exact is None else Fraction(*exact)


@pytest.mark.parametrize(
    ("expression", "exact"),
    [
        ("1 + 2 * 3", 7),
        ("10 - 4 - 3", 3),
        ("100 / 10 / 5", 2),
        ("2 * (3 + 4)", 14),
        ("2 ^ 10", 1024),
        ("1 / 3 * 3", 1),
        ("- 5 + 8", 3),
        ("20 % * 50", 10),
        ("7 / ( 0 - 2 )", Fraction(-7, 2)),
    ],
)
def test_signs_bind_as_usual_and_nothing_is_rounded(expression: str, exact: Fraction) -> None:
    assert value(expression) == exact


@pytest.mark.parametrize(
    "expression", ["", "1 +", "(1 + 2", "1 + 2)", "* 3", "5 / (2 - 2)", "2 ^ 99", "2 ^ (1 / 2)", "1 ? 2"]
)
def test_what_is_no_expression_has_no_value(expression: str) -> None:
    assert value(expression) is None


@pytest.mark.parametrize(
    "expression", ["(" * 5_000 + "1", "-" * 5_000 + "1", "9 ^ 12 ^ 12 ^ 12", "99999 ^ 9 * 99999 ^ 9"]
)
def test_a_hostile_expression_is_given_up_early(expression: str) -> None:
    assert value(expression) is None


@given(EXPRESSIONS)
def test_a_value_is_that_of_exact_fractions(expression: str) -> None:
    try:
        expected = eval(expression.replace("(", "(Fraction(1)*"), {"Fraction": Fraction})
    except ZeroDivisionError:
        expected = None
    got = value(expression)
    assert got is None or got == expected
    assert got is not None or expected is None or len(tokens(expression)) > 60


@pytest.mark.parametrize(
    ("written", "ratio"),
    [("48", (48, 1)), ("1,200", (1200, 1)), ("3.25", (325, 100)), (".5", (5, 10)), ("1234567890123456", None)],
)
def test_a_number_is_read_as_it_is_written(written: str, ratio: tuple[int, int] | None) -> None:
    assert ratio_of(written) == ratio
