"""Text equality after normalisation: Unicode form, case, white space and the punctuation around an answer.

It does not know meaning: a paraphrase differs. Signs that carry a value ("-5", "C#", "5%", ".5") are kept.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from router.evidence.compare.base import Answer, Kind, Verdict, agree, differ, side_by_side

CLOSING = ".,;:!?…。！？、"
WRAPPERS = frozenset([('"', '"'), ("'", "'"), ("`", "`"), ("*", "*"), ("(", ")"), ("“", "”"), ("‘", "’"), ("«", "»")])
LABEL_WORDS = 4
PIECE = 512  # NFKC is quadratic in a run of combining marks: pieces keep it linear


class Text:
    name: ClassVar[str] = "text"
    version: ClassVar[int] = 1

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        return not (teacher.called or student.called)

    def compare(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> Verdict:
        ours, theirs = normalise(student.text), normalise(teacher.text)
        if ours == theirs:
            return agree(self)
        kind: Kind = "label" if len(theirs.split()) <= LABEL_WORDS else "text"
        return differ(self, kind, side_by_side(teacher.text, student.text), word_overlap(theirs, ours))


def normalise(text: str) -> str:
    """NFKC, casefold, single spaces, no punctuation or quotes around the whole; empty only where `text` is blank."""
    folded = " ".join(_fold(word) for word in text.split())
    return _bare(folded) or folded


def word_overlap(left: str, right: str) -> float:
    """Dice coefficient of the words as multisets (Dice 1945), in [0, 1]."""
    ours, theirs = Counter(left.split()), Counter(right.split())
    total = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / total if total else 0.0


def _fold(word: str) -> str:
    """Caseless form, Unicode 3.13 D146 without the costly outer NFD."""
    if word.isascii():
        return word.lower()
    pieces = (word[start : start + PIECE] for start in range(0, len(word), PIECE))
    return "".join(_nfkc(_nfkc(piece).casefold()) for piece in pieces)


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _bare(text: str) -> str:
    start, end = 0, len(text)
    while start < end:
        if text[end - 1] in CLOSING or text[end - 1] == " ":
            end -= 1
        elif text[start] == " ":
            start += 1
        elif end - start > 1 and (text[start], text[end - 1]) in WRAPPERS:
            start, end = start + 1, end - 1
        else:
            break
    return text[start:end]
