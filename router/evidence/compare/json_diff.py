"""The differences of two JSON values by path, with a rule for a path where the configuration gives one.

Without rules: key order does not count, the order of arrays does, numbers are equal by value, texts by character; a
long text that reads as prose is equal where `words.plainly_same` says so. A rule for `$.a` holds at `$.a` only, except
that `ignore` and `unordered` take everything below with them. Where there is no rule and the request leaves it open
(`Rules.with_hints`), two notations of one value are equal, and lists that are sets by schema or by name have no order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from router.comparator_settings import JsonRule
from router.evidence.compare.json_path import Path, Step, fits, parse_path, render_path, wildcards
from router.evidence.compare.json_tree import QUIET, freeze, render
from router.evidence.compare.notations import rounded, same_text, same_value
from router.evidence.compare.text import normalise
from router.evidence.compare.words import plainly_same, reads_as_prose, similarity

MATCHED = 64  # elements of unordered arrays that no equal one is found for, matched one by one
_PLAIN = JsonRule()
_SET = JsonRule(compare="unordered")
# What lists of texts with these names are: sets, unless somebody speaks of their order.
_SETS = (
    "tags labels categories keywords topics languages hashtags recipients to cc bcc attendees participants symbols "
    "tickers permissions scopes roles allergens skills"
)
_FREE = "query q search search_query text note message title subject body reason comment description"
_SET_NAMES, _FREE_NAMES = frozenset(_SETS.split()), frozenset(_FREE.split())


@dataclass(frozen=True, slots=True)
class Difference:
    path: str
    teacher: str
    student: str

    def __str__(self) -> str:
        return f"{self.path}: {self.teacher} != {self.student}"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules, those with fewer wildcards first."""

    by_path: tuple[tuple[tuple[Step, ...], JsonRule], ...] = ()
    set_names: bool = False
    notations: bool = False
    free_text: bool = False

    @classmethod
    def of(cls, rules: Mapping[str, JsonRule]) -> Rules:
        """Raises ValueError for what is no path."""
        parsed = [(parse_path(path), rule) for path, rule in rules.items()]
        return cls(tuple(sorted(parsed, key=lambda entry: wildcards(entry[0]))))

    def with_hints(
        self, sets: tuple[tuple[Step, ...], ...], set_names: bool, notations: bool, free_text: bool = False
    ) -> Rules:
        """These rules, and for paths without one: arrays that are sets by path or by name, other notations of a value,
        and case and punctuation of what is free text by its name."""
        by_path = (*self.by_path, *((path, _SET) for path in sets))
        return replace(self, by_path=by_path, set_names=set_names, notations=notations, free_text=free_text)

    def at(self, path: Path) -> JsonRule:
        return next((rule for pattern, rule in self.by_path if fits(pattern, path)), _PLAIN)


def differences(teacher: Any, student: Any, rules: Rules, path: Path = ()) -> Iterator[Difference | None]:
    """One item per compared leaf: None where it is equal, else the difference with its path."""
    rule = rules.at(path)
    if rule.compare == "ignore":
        yield None
    elif isinstance(teacher, dict) and isinstance(student, dict):
        for key in [*teacher, *(key for key in student if key not in teacher)]:
            yield from _member(teacher, student, key, rules, path)
    elif isinstance(teacher, list) and isinstance(student, list):
        by_name = rule is _PLAIN and rules.set_names and _is_named_set(teacher, student, path)
        each = _unordered if by_name or rule.compare == "unordered" else _ordered
        yield from each(teacher, student, rules, path)
    else:
        same = _equal(teacher, student, rule) or (rule is _PLAIN and _otherwise_equal(teacher, student, rules, path))
        yield None if same else Difference(render_path(path), render(teacher), render(student))


def _member(
    teacher: dict[str, Any], student: dict[str, Any], key: str, rules: Rules, path: Path
) -> Iterator[Difference | None]:
    below = (*path, key)
    if key in teacher and key in student:
        yield from differences(teacher[key], student[key], rules, below)
    elif rules.at(below).compare == "ignore":
        yield None
    else:
        yield _lone(below, teacher, student, key)


def _lone(path: Path, teacher: Any, student: Any, key: str) -> Difference:
    theirs, ours = (render(side[key]) if key in side else "absent" for side in (teacher, student))
    return Difference(render_path(path), theirs, ours)


def _ordered(teacher: list[Any], student: list[Any], rules: Rules, path: Path) -> Iterator[Difference | None]:
    shared = min(len(teacher), len(student))
    for index in range(shared):
        yield from differences(teacher[index], student[index], rules, (*path, index))
    for index in range(shared, max(len(teacher), len(student))):
        below = (*path, index)
        theirs, ours = (render(side[index]) if index < len(side) else "absent" for side in (teacher, student))
        yield None if rules.at(below).compare == "ignore" else Difference(render_path(below), theirs, ours)


def _unordered(teacher: list[Any], student: list[Any], rules: Rules, path: Path) -> Iterator[Difference | None]:
    """Equal elements cancel out; of the rest each takes the first that the rules below find the same."""
    missing, extra = _rest(teacher, student), _rest(student, teacher)
    if len(missing) <= MATCHED and len(extra) <= MATCHED:
        missing, extra = _unmatched(missing, extra, rules, path)
    yield from [None] * (len(teacher) - len(missing))
    below = render_path(path) + "[*]"
    yield from (Difference(below, render(element), "absent") for element in missing)
    yield from (Difference(below, "absent", render(element)) for element in extra)


def _rest(elements: list[Any], others: list[Any]) -> list[Any]:
    """The elements that are not among the others, as multisets."""
    there = Counter(freeze(other) for other in others)
    rest = []
    for element in elements:
        key = freeze(element)
        if there[key] > 0:
            there[key] -= 1
        else:
            rest.append(element)
    return rest


def _unmatched(missing: list[Any], extra: list[Any], rules: Rules, path: Path) -> tuple[list[Any], list[Any]]:
    left, lone = list(extra), []
    for element in missing:
        twin = next((n for n, other in enumerate(left) if _same(element, other, rules, (*path, 0))), None)
        if twin is None:
            lone.append(element)
        else:
            left.pop(twin)
    return lone, left


def _same(teacher: Any, student: Any, rules: Rules, path: Path) -> bool:
    return all(difference is None for difference in differences(teacher, student, rules, path))


def _equal(teacher: Any, student: Any, rule: JsonRule) -> bool:
    if isinstance(teacher, str) and isinstance(student, str):
        return _texts_equal(teacher, student, rule)
    if isinstance(teacher, Decimal) and isinstance(student, Decimal):
        return teacher == student or _close(teacher, student, rule)
    return freeze(teacher) == freeze(student)


def _is_named_set(teacher: list[Any], student: list[Any], path: Path) -> bool:
    named = bool(path) and isinstance(path[-1], str) and path[-1].lower() in _SET_NAMES
    return named and all(
        all(isinstance(item, str) for item in side) and len(set(side)) == len(side) for side in (teacher, student)
    )


def _otherwise_equal(teacher: Any, student: Any, rules: Rules, path: Path) -> bool:
    if isinstance(teacher, str) and isinstance(student, str):
        free = rules.free_text and bool(path) and path[-1] in _FREE_NAMES
        return (rules.notations and same_value(teacher, student)) or (free and same_text(teacher, student))
    numbers = isinstance(teacher, Decimal) and isinstance(student, Decimal)
    return rules.notations and numbers and rounded(teacher, student)


def _texts_equal(teacher: str, student: str, rule: JsonRule) -> bool:
    if teacher == student:
        return True
    if rule.compare == "text" and normalise(teacher) == normalise(student):
        return True
    if rule.similarity is not None:
        return similarity(teacher, student) >= rule.similarity
    return reads_as_prose(teacher) and reads_as_prose(student) and plainly_same(teacher, student)


def _close(left: Decimal, right: Decimal, rule: JsonRule) -> bool:
    gap = QUIET.abs(QUIET.subtract(left, right))
    largest = max(QUIET.abs(left), QUIET.abs(right))
    allowed = max(Decimal(str(rule.tolerance_abs)), QUIET.multiply(largest, Decimal(str(rule.tolerance_rel))))
    return bool(gap <= allowed)
