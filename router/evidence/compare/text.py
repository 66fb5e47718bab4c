"""The normal form of a short text: Unicode form, case, white space and the punctuation around it do not count.

A typographic apostrophe is a plain one.
Signs that carry a value ("-5", "C#", "5%", ".5") are kept.
"""

from __future__ import annotations

import unicodedata
from collections import Counter

CLOSING = ".,;:!?…。！？、"
WRAPPERS = frozenset([('"', '"'), ("'", "'"), ("`", "`"), ("*", "*"), ("(", ")"), ("“", "”"), ("‘", "’"), ("«", "»")])
APOSTROPHES = str.maketrans("‘’ʼ", "'''")
PIECE = 512  # NFKC is quadratic in a run of combining marks: pieces keep it linear


def normalise(text: str) -> str:
    """NFKC, casefold, single spaces, no punctuation or quotes around the whole; empty only where `text` is blank."""
    folded = " ".join(_fold(word) for word in text.split()).translate(APOSTROPHES)
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
