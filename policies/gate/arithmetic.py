"""The arithmetic that an answer shows: every "a op b = c" in it, evaluated exactly, and where its numbers come from.

Read are digits with separators, signs and decimals, + - * / ^ and their signs (×, ÷, \\times, \\frac{a}{b}, "times"),
parentheses, percent, "dozen" and scales, units between a number and the next operator, chains (a = b = c), and
GSM8K's calculator marks <<48/2=24>> (Cobbe et al. 2021, arXiv:2110.14168). A side with a variable, or with anything
else that is not read, is left out rather than guessed. It does not know whether an equation is the right one to write.
"""

from __future__ import annotations

import re
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from policies.gate.expressions import BINDS, Ratio, Tokens, ratio_of, value_of

MOST_EQUATIONS = 64

_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "·": "*", "⋅": "*", "∗": "*", "≃": "≈", "\u00a0": " "})
_LATEX = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|boxed|mbox)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"\\div\b"), "/"),
    (re.compile(r"\\(?:approx|sim)(?:eq)?\b"), "≈"),
    (re.compile(r"\\(?:left|right|quad|qquad)\b"), " "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;!\[\]()]"), " "),
)
_BULLET = re.compile(r"\n[ \t]*[-*+•] ")
_CLOCK = re.compile(r"\b\d{1,2}:\d\d\b")
_FACTOR = re.compile(r"(?<=[\d)])\(")  # 2(3 + 4)
_MARK = re.compile(r"<<([^<>\n]{1,200})>>\s*([$€£]?\s?-?[\d,]*\.?\d*)")
_STOP = re.compile(r"[\n;:?!#|]|[.,](?!\d)")  # one character each
_TOKEN = re.compile(
    r"(\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|\.\d+)(?:-(?=[A-Za-z])|(?:st|nd|rd|th|s)\b)?"  # a number
    r"|((?:/ ?)?[^\W\d_]+(?:[ '’/]+[^\W\d_]+)*)"  # words
    r"|([-+*/^()%=≈])"
)
_ASIDE = re.compile(r"\([^()\d\n]*\)")
_BETWEEN = {"x": "*", "times": "*", "plus": "+", "minus": "-"}  # also behind a unit: 3 hours times 2
_ADJACENT = {"over": "/", "of": "*", "equals": "="}  # only right behind the number: 20% of 50
_SCALES = {"dozen": 12, "dozens": 12, "hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 10**9}
_UNREAD = "?"  # stands for what is not read, and makes its side none
_MOST_UNIT_WORDS = 5
_ANY_DECIMALS = 9  # of a number that is exact


class Equation(NamedTuple):
    """Two neighbouring sides of a chain. `operands`: the numbers of the left side. `mark`: from a calculator mark.

    `error`: 0 where the right side is the left's value, or its rounding to the digits written; else the relative
    difference. `worded`: units or other words stood between the numbers. `start`: where its clause or mark starts.
    """

    left: float
    right: float
    error: float
    operands: tuple[float, ...]
    signs: str
    worded: bool
    mark: bool
    start: int


class Side(NamedTuple):
    """`tokens`: numbers and signs in their order; `decimals`: of the last number; `words`: how many were skipped.

    `about`: what comes before it is "≈".
    """

    tokens: Tokens
    decimals: int
    words: int
    about: bool


Run = tuple[int, list[Side]]
"""Where its clause starts, and the sides of a chain of equations."""


def plain(text: str) -> str:
    """The text with one sign for each operation; LaTeX and Markdown taken away. About as long as the text."""
    if not text.isascii():
        text = text.translate(_SIGNS)
    text = _BULLET.sub("\n", "\n" + text.replace("**", " ").replace("\\*", "*"))[1:]
    if "\\" in text:
        for pattern, instead in _LATEX:
            text = pattern.sub(instead, text)
        text = text.replace("\\", "")
    if ":" in text:
        text = _CLOCK.sub(":", text)
    return _FACTOR.sub("*(", text) if "(" in text else text


def equations(text: str) -> list[Equation]:
    """Of a text that went through `plain`; at most `MOST_EQUATIONS`, in the order in which they stand."""
    if "=" not in text and "≈" not in text:
        return []
    marks: list[Run] = []
    if "<<" in text:
        for mark in _MARK.finditer(text):
            marks.extend((mark.start(), sides) for _, sides in _runs(mark[1]))
        text = _MARK.sub(lambda mark: mark[2] + " " * (len(mark[0]) - len(mark[2])), text)
    runs = _runs(text)
    found = [equation for run in runs for equation in _chain(run, mark=False)]
    found += [equation for run in marks for equation in _chain(run, mark=True)]
    found.sort(key=attrgetter("start"))
    return found[:MOST_EQUATIONS]


def _runs(text: str) -> list[Run]:
    """Stretches of numbers and signs that hold an "=", cut at it. A unit's words are skipped, other words cut."""
    runs: list[Run] = []
    start = 0
    for clause in _STOP.split(text):
        if "=" in clause or "≈" in clause:
            runs.extend((start, sides) for sides in _Reader().read(clause))
        start += len(clause) + 1
    return runs


class _Reader:
    """Collects the runs of one clause, token by token."""

    __slots__ = ("_about", "_decimals", "_pending", "_runs", "_sides", "_tokens", "_valued", "_words")

    def __init__(self) -> None:
        self._runs: list[list[Side]] = []
        self._sides: list[Side] = []
        self._pending: list[str] = []  # words since the last number or sign
        self._begin()

    def _begin(self) -> None:
        """Of a side."""
        self._tokens: Tokens = []
        self._decimals = 0
        self._words = 0
        self._valued = False  # the last token ends a value
        self._about = False

    def read(self, clause: str) -> list[list[Side]]:
        """Its runs."""
        if "(" in clause:
            clause = _ASIDE.sub("", clause)
        for number, words, sign in _TOKEN.findall(clause):
            if number:
                self._number(number)
            elif sign:
                self._sign(sign)
            else:
                self._said(words.partition("/")[0].split())  # of "$12/hour" and "5 km/h" what is per something
        self._cut()
        return self._runs

    def _number(self, written: str) -> None:
        value = ratio_of(written)
        if value is None:
            self._cut()
            return
        if self._pending or self._valued:
            sign = _joining(self._pending) if self._valued else None
            self._pending = []
            if sign is None:
                self._cut()
            elif sign == "=":
                self._close()
            else:
                self._tokens.append(sign)
        self._tokens.append(value)
        self._valued = True
        self._decimals = len(written.partition(".")[2])

    def _sign(self, sign: str) -> None:
        if self._pending and not self._skip_unit(sign):
            self._cut()
            if sign != "(":
                self._tokens = [_UNREAD]
        if sign == "=" or sign == "≈":
            self._close()
            self._about = sign == "≈"
            return
        if sign == "(" and self._valued:
            self._cut()
        elif sign in "*/^%)" and not self._valued:
            self._cut()
            return
        self._tokens.append(sign)
        self._valued = sign in ")%"

    def _said(self, words: list[str]) -> None:
        first = words[0].lower() if words else ""
        if self._valued and not self._pending and first in _SCALES:
            self._tokens += ["*", (_SCALES[first], 1)]
            self._decimals = _ANY_DECIMALS
            words = words[1:]
        elif self._valued and not self._pending and first == "percent":
            self._tokens.append("%")
            words = words[1:]
        self._pending += words

    def _skip_unit(self, sign: str) -> bool:
        """True where the pending words may be a number's unit ("5 apples * 3"), and nothing that is reckoned with."""
        pending = self._pending
        if not self._valued:
            self._pending = []
            return sign in "=≈" and not self._tokens and not self._sides
        if sign == "(":
            multiplied = pending == ["x"]
            if multiplied:
                self._tokens.append("*")
                self._pending = []
                self._valued = False
            return multiplied
        if len(pending) > _MOST_UNIT_WORDS or any(map(_is_variable, pending)):
            return False
        self._words += len(pending)
        self._pending = []
        return True

    def _close(self) -> None:
        """Ends a side at an "="."""
        self._sides.append(Side(_balanced(self._tokens), self._decimals, self._words, self._about))
        self._begin()

    def _cut(self) -> None:
        """Ends the run; a variable behind the last number ("4x") makes its side unreadable."""
        if self._sides:
            if self._pending and _is_variable(self._pending[0]):
                self._tokens = [_UNREAD]
            self._close()
            self._runs.append(self._sides)
            self._sides = []
        elif self._tokens:
            self._begin()
        self._pending = []


def _balanced(tokens: Tokens) -> Tokens:
    """Without a parenthesis around the whole equation, which leaves each side with half of it."""
    if "(" in tokens or ")" in tokens:
        surplus = tokens.count("(") - tokens.count(")")
        if surplus > 0 and tokens[0] == "(":
            return tokens[1:]
        if surplus < 0 and tokens[-1] == ")":
            return tokens[:-1]
    return tokens


def _is_variable(word: str) -> bool:
    return len(word) == 1 and word not in "aI"


def _joining(words: list[str]) -> str | None:
    """The operation that stands as words between two numbers ("3 x 4", "2 hours times 4", "10 divided by 2")."""
    if not words or len(words) > _MOST_UNIT_WORDS:
        return None
    last = words[-1].lower()
    if last == "by" and len(words) > 1:
        return {"divided": "/", "multiplied": "*"}.get(words[-2].lower())
    return _BETWEEN.get(last) or (_ADJACENT.get(last) if len(words) == 1 else None)


def _chain(run: Run, *, mark: bool) -> list[Equation]:
    """The equations between neighbouring sides whose values are known and whose left side reckons."""
    start, sides = run
    found = []
    for left, right in pairwise(sides):
        signs = "".join([token for token in left.tokens[1:] if isinstance(token, str) and token in BINDS])
        value, result = (value_of(left.tokens), value_of(right.tokens)) if signs else (None, None)
        if value is None or result is None:
            continue
        operands = tuple(token[0] / token[1] for token in left.tokens if isinstance(token, tuple))
        error = _error(value, result, right)
        worded = left.words > 0
        found.append(Equation(value[0] / value[1], result[0] / result[1], error, operands, signs, worded, mark, start))
    return found


def _error(value: Ratio, result: Ratio, right: Side) -> float:
    """The relative difference; 0 where `result` is `value` at the decimals written, or the same as percent."""
    if "%" in right.tokens:
        percent = (result[0] * 100, result[1])
        return min(_difference(value, result, right.decimals + 2, True), _difference(value, percent, right.decimals))
    if len(right.tokens) > 1 and isinstance(right.tokens[0], tuple):  # reckoned on: a + b = c / d
        return min(_difference(value, result, right.decimals), _difference(value, right.tokens[0], _ANY_DECIMALS))
    return _difference(value, result, right.decimals, right.about)


def _difference(value: Ratio, result: Ratio, decimals: int, about: bool = False) -> float:
    """Whole numbers are rounded only where that is said (`about`)."""
    if value == result:
        return 0.0
    apart = abs(value[0] * result[1] - result[0] * value[1])
    whole = value[1] * result[1]
    if not apart or ((decimals or about) and apart * 10**decimals * 2 <= whole):
        return 0.0
    return min(apart / max(abs(value[0] * result[1]), whole), 1e6)
