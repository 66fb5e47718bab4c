"""Features of an answer's arithmetic: is it right, do its numbers come from the request, does the result follow.

A request without numbers and an answer without equations give NaN where a share would mean nothing. The features do not
know the right answer; a flawless calculation of the wrong thing looks flawless.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from policies.gate.arithmetic import Equation

NAN = math.nan
GROSS = 0.02  # relative: beyond what rounding on the way explains
_NUMBER = re.compile(r"[.\d]\d*(?:,\d{3})*(?:\.\d+)?")
_LONGEST_NUMBER = 18
_SPOKEN: dict[bytes, int] = {
    word: value
    for value, words in (
        *enumerate(b"- - two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()),
        *(
            (10 * tens, word)
            for tens, word in enumerate(b"- - twenty thirty forty fifty sixty seventy eighty ninety".split())
        ),
        (2, b"half halves twice double doubled pair couple"),
        (3, b"thrice triple tripled third thirds"),
        (4, b"quarter quarters fourth fourths quadruple"),
        (5, b"fifth fifths"),
        (6, b"sixth sixths"),
        (8, b"eighth eighths"),
        (10, b"tenth tenths"),
        (12, b"dozen dozens"),
        (100, b"hundred hundreds"),
    )
    for word in words.split()
    if word != b"-"
}
_UNITS = frozenset({1.0, 2.0, 4.0, 7.0, 12.0, 24.0, 30.0, 31.0, 52.0, 60.0, 100.0, 365.0, 1000.0, 3600.0, 0.5, 0.01})
_MARKER = re.compile(r"####|\\boxed\s*\{|\b(?:answer|result)\b[^.\n\d]{0,40}?(?:is|:|=|are)", re.IGNORECASE)
_CONCLUSION = 400  # characters at the end of an answer in which a marked number is its result

NAMES: tuple[str, ...] = (
    "equations",
    "marks",
    "signs_each",
    "wrong",
    "wrong_share",
    "gross",
    "worded_wrong",
    "largest_error",
    "wrong_last",
    "plus",
    "minus",
    "times",
    "divided",
    "operands_from_request",
    "operands_from_results",
    "operands_units",
    "operands_unexplained",
    "unexplained",
    "request_unused",
    "request_unused_share",
    "request_unmentioned",
    "results_unused",
    "results_fractional",
    "results_negative",
    "repeated",
    "final_marked",
    "final_present",
    "final_is_last_result",
    "final_is_result",
    "final_in_request",
    "final_is_whole",
    "final_negative",
    "final_log",
    "final_to_largest",
    "final_after_result",
    "numbers_after_marker",
    "answer_numbers",
    "answer_numbers_new",
    "request_numbers",
    "request_distinct",
    "request_fractional",
    "steps_to_numbers",
)


class Final(NamedTuple):
    """The number that an answer ends in; `marked`: behind "####", \\boxed, "answer is"; `others`: numbers after it."""

    value: float | None
    marked: bool
    others: int


def numbers(text: str) -> list[float]:
    """All numbers of a text in digits, signs left out."""
    found = [number for number in _NUMBER.findall(text) if number != "." and len(number) <= _LONGEST_NUMBER]
    return [float(number.replace(",", "")) for number in found if number.count(".") < 2]


def spoken(words: Sequence[bytes]) -> list[float]:
    """The numbers among lower-case words; of a fraction its denominator. "one" and "second" are mostly none."""
    return [float(_SPOKEN[word]) for word in words if word in _SPOKEN]


def final_of(text: str, said: Sequence[float]) -> Final:
    """`said`: the numbers of the text."""
    conclusion = text[-_CONCLUSION:]
    ends = [marker.end() for marker in _MARKER.finditer(conclusion)]
    after = numbers(conclusion[ends[-1] :]) if ends else []
    if after:
        return Final(after[0] * _sign_before(conclusion, ends[-1], after[0]), True, len(after) - 1)
    return Final(said[-1] if said else None, False, 0)


def _sign_before(text: str, start: int, value: float) -> float:
    head = text[start : start + 12]
    return -1.0 if value and "-" in head.partition(_first_digit(head))[0] else 1.0


def _first_digit(text: str) -> str:
    return next((sign for sign in text if sign.isdigit()), "0")


def features(
    asked: Sequence[float], asked_words: Sequence[float], found: Sequence[Equation], said: Sequence[float], final: Final
) -> list[float]:
    """One value for each of `NAMES`. `asked`: the request's numbers, `said`: the answer's, both in order."""
    given = {*asked, *asked_words, *(number / 100 for number in asked)}
    return [
        *_correctness(found),
        *_operations(found),
        *_origins(given, {*asked}, found, said),
        *_results(found, final),
        *_final(asked, found, final),
        *_numbers(given, asked, asked_words, found, said),
    ]


def _correctness(found: Sequence[Equation]) -> list[float]:
    count = len(found)
    if not count:
        return [0.0, 0.0, NAN, 0.0, NAN, 0.0, 0.0, NAN, NAN]
    clean = [equation for equation in found if not equation.worded]
    wrong = sum(equation.error > 0 for equation in clean)
    return [
        float(count),
        float(sum(equation.mark for equation in found)),
        sum(len(equation.signs) for equation in found) / count,
        float(wrong),
        wrong / count,
        float(sum(equation.error > GROSS for equation in clean)),
        float(sum(equation.error > 0 for equation in found) - wrong),
        max(math.log1p(equation.error) for equation in found),
        float(found[-1].error > 0),
    ]


def _operations(found: Sequence[Equation]) -> list[float]:
    signs = "".join(equation.signs for equation in found)
    return [float(signs.count(sign)) for sign in "+-*/"]


def _origins(given: set[float], asked: set[float], found: Sequence[Equation], said: Sequence[float]) -> list[float]:
    from_request = from_results = units = unexplained = 0
    results: set[float] = set()
    used: set[float] = set()
    for equation in found:
        for operand in equation.operands:
            used.add(operand)
            if operand in given:
                from_request += 1
            elif operand in results:
                from_results += 1
            elif operand in _UNITS:
                units += 1
            else:
                unexplained += 1
        results.add(equation.left)
        results.add(equation.right)
    total = from_request + from_results + units + unexplained
    unused = sum(1 for number in asked if number not in used and number / 100 not in used)
    mentioned = {*said, *used}
    return [
        *((part / total if total else NAN) for part in (from_request, from_results, units, unexplained)),
        float(unexplained),
        float(unused) if found else NAN,
        unused / len(asked) if found and asked else NAN,
        sum(1 for number in asked if number not in mentioned) / len(asked) if asked else NAN,
    ]


def _results(found: Sequence[Equation], final: Final) -> list[float]:
    if not found:
        return [NAN, NAN, 0.0, 0.0]
    results = [equation.right for equation in found]
    used = {operand for equation in found for operand in equation.operands}
    dangling = {result for result in results if result not in used and result != final.value}
    pairs = [(equation.left, equation.signs, equation.mark) for equation in found]
    return [
        float(len(dangling)),
        sum(result != math.floor(result) for result in results) / len(results),
        float(sum(equation.left < 0 for equation in found)),
        float(len(pairs) - len(set(pairs))),
    ]


def _final(asked: Sequence[float], found: Sequence[Equation], final: Final) -> list[float]:
    value = final.value
    if value is None:
        return [float(final.marked), 0.0, *(NAN,) * 9]
    results = [abs(equation.right) for equation in found]
    largest = max(asked, default=0.0)
    place = [index for index, result in enumerate(results) if result == abs(value)]
    return [
        float(final.marked),
        1.0,
        float(bool(results) and results[-1] == abs(value)),
        float(bool(place)),
        float(abs(value) in asked),
        float(value == math.floor(value)),
        float(value < 0),
        math.log1p(abs(value)),
        math.log1p(abs(value)) - math.log1p(largest) if asked else NAN,
        float(len(results) - 1 - place[-1]) if place else NAN,
        float(final.others),
    ]


def _numbers(
    given: set[float], asked: Sequence[float], words: Sequence[float], found: Sequence[Equation], said: Sequence[float]
) -> list[float]:
    results = {equation.right for equation in found}
    new = sum(1 for number in said if number not in given and number not in results)
    count = len(asked) + len(words)
    steps = len({(equation.left, equation.signs) for equation in found})
    return [
        float(len(said)),
        new / len(said) if said else NAN,
        float(count),
        float(len({*asked, *words})),
        float(sum(number != math.floor(number) for number in asked)),
        steps / count if count else NAN,
    ]
