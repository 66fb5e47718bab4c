"""What a detector says: where something stands that must not leave, and what it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

PLACEHOLDER = re.compile(r"\[([A-Z][A-Z_]*)_([0-9]{1,9})\]")


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` is of this `kind`. `key`: its normal form; two spans with the same are the same thing."""

    start: int
    end: int
    kind: str
    key: str


class Detector(Protocol):
    """Finds one sort of thing in a text. Pure; never matches a placeholder, so that redacting twice changes nothing."""

    def find(self, text: str) -> Iterator[Span]: ...


@dataclass(frozen=True, slots=True)
class Pattern:
    """Every match of a regular expression; the group `value`, where it has one, is what is replaced.

    `marker`: what every match has in it, so that texts without it need no search. `lower`: case means nothing.
    """

    kind: str
    regex: re.Pattern[str]
    marker: str = ""
    lower: bool = False

    def find(self, text: str) -> Iterator[Span]:
        if self.marker not in text:
            return
        group: int | str = "value" if "value" in self.regex.groupindex else 0
        for match in self.regex.finditer(text):
            value = match[group]
            yield Span(match.start(group), match.end(group), self.kind, value.lower() if self.lower else value)
