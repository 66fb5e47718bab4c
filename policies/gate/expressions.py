"""Exact values of small arithmetic expressions, in integers: no float, no `eval`, and a bounded cost.

Signs bind as usual (`^` before `*` and `/` before `+` and `-`); equal ones are taken from the left, `%` ends a number.
"""

from __future__ import annotations

Ratio = tuple[int, int]
"""An exact number: numerator and a positive denominator, not reduced."""

Tokens = list[Ratio | str]
"""Numbers, the signs + - * / ^ %, and parentheses, in their order."""

BINDS = {"+": 0, "-": 0, "*": 1, "/": 1, "^": 2}
_MOST_TOKENS = 60
_MOST_DIGITS = 15  # of a number that is read; a longer one is an identifier
_MOST_POWER = 12
_MOST_BITS = 256  # 77 digits: quotients of such numbers are floats


def ratio_of(number: str) -> Ratio | None:
    """Exactly what is written; None for more digits than a quantity has."""
    if number.isdecimal() and len(number) <= _MOST_DIGITS:
        return int(number), 1
    whole, _, decimals = number.replace(",", "").partition(".")
    if len(whole) + len(decimals) > _MOST_DIGITS:
        return None
    return int(whole + decimals), 10 ** len(decimals)


def value_of(tokens: Tokens) -> Ratio | None:
    """The exact value of a side; None where it is no expression, divides by zero or grows beyond all quantities."""
    if len(tokens) == 1 and isinstance(tokens[0], tuple):
        return tokens[0]
    if len(tokens) > _MOST_TOKENS:
        return None
    try:
        value, end = _climb(tokens, 0, 0)
    except (IndexError, ZeroDivisionError, _Unreadable):
        return None
    return value if end == len(tokens) else None


class _Unreadable(Exception):
    """No expression that is read here."""


def _climb(tokens: Tokens, at: int, least: int) -> tuple[Ratio, int]:
    """Precedence climbing: the value of what starts at `at`, over signs that bind at least so much, and its end."""
    left, at = _atom(tokens, at)
    while at < len(tokens):
        sign = tokens[at]
        if not isinstance(sign, str) or (binds := BINDS.get(sign, -1)) < least:
            break
        right, at = _climb(tokens, at + 1, binds + 1)
        left = _applied(sign, left, right)
    return left, at


def _atom(tokens: Tokens, at: int) -> tuple[Ratio, int]:
    token = tokens[at]
    if isinstance(token, tuple):
        value, at = token, at + 1
    elif token == "(":
        value, at = _climb(tokens, at + 1, 0)
        if tokens[at] != ")":
            raise _Unreadable
        at += 1
    elif token == "-" or token == "+":
        (top, bottom), at = _atom(tokens, at + 1)
        value = (-top if token == "-" else top, bottom)
    else:
        raise _Unreadable
    if at < len(tokens) and tokens[at] == "%":
        value, at = (value[0], value[1] * 100), at + 1
    return value, at


def _applied(sign: str, left: Ratio, right: Ratio) -> Ratio:
    (a, b), (c, d) = left, right
    if sign == "+":
        top, bottom = a * d + c * b, b * d
    elif sign == "-":
        top, bottom = a * d - c * b, b * d
    elif sign == "*":
        top, bottom = a * c, b * d
    elif sign == "/":
        if c == 0:
            raise ZeroDivisionError
        top, bottom = (a * d, b * c) if c > 0 else (-a * d, -b * c)
    else:
        if d != 1 or not 0 <= c <= _MOST_POWER:
            raise _Unreadable
        top, bottom = a**c, b**c
    if top.bit_length() > _MOST_BITS or bottom.bit_length() > _MOST_BITS:
        raise _Unreadable
    return top, bottom
