"""Short answers that name one of a few things: equal in normal form, by alias, or as one option of a list.

A lead-in ("The category is", "Label:"), what follows a yes or no ("No, it is not"), and the text behind an option's
letter ("B. Paris" for "B") do not count. Unless the request asks for a form, an emoji at either end, another notation
of a time, date or range, a missing accent, the order of a list of names and an option's text for its letter do not
either. It does not know meaning: "positive" and "favourable" differ unless the aliases say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from router.evidence.compare.base import Answer, Verdict, agree, differ, side_by_side
from router.evidence.compare.choices import differ_in_accents, items, options, plain
from router.evidence.compare.moments import moment
from router.evidence.compare.requests import wants_exact_form, wants_order
from router.evidence.compare.text import normalise, word_overlap

LABEL_WORDS = 4
SENTENCE_WORDS = 12
_LONGEST = 400  # characters; more is no label, and is compared whole
_LEAD_IN = re.compile(r"(?P<lead>(?:[^\s:=]+ ){0,6}?(?:[^\s:=]+ ?[:=]|is|are|equals)) (?P<label>.+)\Z")
_EMPTY = "the a this that it is are equals final correct best"
_DECIDED = re.compile(r"(?P<word>yes|no|true|false|ja|nein|oui|non|sí|si)[,.;:!] .+\Z")
_OPTION = re.compile(r"(?:option |choice |answer )?\(?(?P<letter>[a-j])(?:[).:]|\Z)(?: (?P<text>.+))?\Z")


@dataclass(frozen=True, slots=True)
class Label:
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    name: str = "label"
    version: ClassVar[int] = 2

    @classmethod
    def of(cls, aliases: Mapping[str, tuple[str, ...]], name: str) -> Label:
        """`aliases`: other spellings by label."""
        normal = {normalise(alias): normalise(label) for label, names in aliases.items() for alias in (label, *names)}
        return cls(MappingProxyType(normal), name)

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        """One answer is a few words, and the other no more than a sentence; or both list the same names."""
        if teacher.called or student.called:
            return False
        shorter, longer = sorted(len(side.text.split()) for side in (teacher, student))
        return (shorter <= LABEL_WORDS and longer <= SENTENCE_WORDS) or _same_list(request, teacher.text, student.text)

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        theirs, ours = normalise(teacher.text), normalise(student.text)
        if theirs == ours or self._same(_Reading.of(theirs), _Reading.of(ours)):
            return agree(self)
        if not wants_exact_form(request) and self._said_otherwise(request, teacher.text, student.text):
            return agree(self)
        return differ(self, "label", side_by_side(teacher.text, student.text), word_overlap(theirs, ours))

    def _same(self, left: _Reading, right: _Reading) -> bool:
        if left.option and right.option:
            return left.option == right.option and (not left.text or not right.text or left.text == right.text)
        names = [{self._label(name) for name in side.names} for side in (left, right)]
        if self._label(left.whole) in names[1] or self._label(right.whole) in names[0]:
            return True
        return bool(left.lead & right.lead) and self._label(left.led) == self._label(right.led)

    def _said_otherwise(self, request: Mapping[str, Any], teacher: str, student: str) -> bool:
        """One answer in two notations, to a person who reads it."""
        if max(len(teacher), len(student)) > _LONGEST:
            return _same_list(request, teacher, student)
        theirs, ours = (plain(text) for text in (teacher, student))
        when = moment(theirs)
        return (
            theirs == ours
            or (when is not None and when == moment(ours))
            or differ_in_accents(theirs, ours)
            or self._same(_Reading.of(theirs), _Reading.of(ours))
            or _same_option(request, _Reading.of(theirs), _Reading.of(ours))
            or _same_list(request, teacher, student)
        )

    def _label(self, name: str) -> str:
        return self.aliases.get(name, name)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a normal form may name. `led` follows the words `lead`; `option` is the letter before `text`."""

    whole: str
    lead: frozenset[str] = frozenset()
    led: str = ""
    option: str = ""
    text: str = ""
    decided: str = ""

    @classmethod
    def of(cls, whole: str) -> _Reading:
        if len(whole) > _LONGEST:
            return cls(whole)
        lead_in, decided = _LEAD_IN.match(whole), _DECIDED.match(whole)
        led = normalise(lead_in["label"]) if lead_in else ""
        words = (
            frozenset(re.findall(r"\w+", lead_in["lead"])) - frozenset(_EMPTY.split()) if lead_in else frozenset[str]()
        )
        option = _OPTION.match(whole) or _OPTION.match(led)
        letter, text = (option["letter"], normalise(option["text"] or "")) if option else ("", "")
        return cls(whole, words, led, letter, text, decided["word"] if decided else "")

    @property
    def names(self) -> set[str]:
        return {name for name in (self.whole, self.led, self.text, self.decided) if name}


def _same_list(request: Mapping[str, Any], teacher: str, student: str) -> bool:
    listed = items(teacher)
    return listed is not None and listed == items(student) and not wants_order(request)


def _same_option(request: Mapping[str, Any], left: _Reading, right: _Reading) -> bool:
    """A letter alone on one side, and on the other the text that the request gives it."""
    lettered, other = (left, right) if left.option else (right, left)
    if not lettered.option or lettered.text or other.option:
        return False
    return options(request).get(lettered.option) in other.names
