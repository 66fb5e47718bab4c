"""What a short answer may be another spelling of: a list in another order, an option's text, a range, a lost accent.

Everything here is for answers that a person reads; `requests.wants_exact_form` says where a program does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from router.evidence.compare.requests import wishes
from router.evidence.compare.text import normalise

LONGEST = 1_000  # characters of a list
ITEM_WORDS = 4
_ACCENTS = frozenset("\u0300\u0301\u0302")  # grave, acute, circumflex: where others fall away, other words begin
_ORNAMENTS = frozenset({"So", "Cf"})
_ATTACHED = "\ufe0e\ufe0f"
_BULLET = re.compile(r"^[ \t]*[-*•][ \t]+", re.MULTILINE)
_BETWEEN = re.compile(r"[,;]\s*(?:and|und|et|y|e)\s|[,;\n]|\s(?:and|und|et|&)\s")
_RANGE = re.compile(r"(?<=\d) ?(?:[-–—]|to|bis) ?(?=\d)")
_ANSWERS = frozenset({"yes", "no", "true", "false", "ja", "nein", "oui", "non", "sí", "si"})
_MARK = re.compile(r"(?:(?<=\s)|(?<=\()|^)(?P<letter>[A-Ja-j])[).:]\s+", re.MULTILINE)


def plain(text: str) -> str:
    """In normal form; without the emoji before and after the words, if there are words; 3–5 and 3 to 5 as 3-5."""
    return normalise(_RANGE.sub("-", _without_ornaments(text)))


def _without_ornaments(text: str) -> str:
    start, end = 0, len(text)
    while start < end and _ornament(text[start]):
        start += 1
    while end > start and _ornament(text[end - 1]):
        end -= 1
    return text[start:end] or text


def differ_in_accents(left: str, right: str) -> bool:
    """One has no grave, acute or circumflex accents where the other has them, and nothing else differs.

    Both in normal form. ñ, ü and ç are letters of their own: "ano" is not "año".
    """
    return left != right and (left == _unaccented(right) or right == _unaccented(left))


def items(text: str) -> tuple[str, ...] | None:
    """The sorted items of a list of names, in normal form; None where the text is none, or places count in it.

    Numbers and yes or no answer several questions, one by one: such a list has an order.
    """
    if len(text) > LONGEST:
        return None
    found = [normalise(item) for item in _BETWEEN.split(_BULLET.sub("", text)) if item.strip()]
    if len(found) < 2 or any(len(item.split()) > ITEM_WORDS or item in _ANSWERS for item in found):
        return None
    return None if any(item[:1].isdigit() or item[:1] in "+-$€£" for item in found) else tuple(sorted(found))


def options(request: Mapping[str, Any]) -> Mapping[str, str]:
    """The last list of options in the request ("A. Paris", "(b) Rome"): texts in normal form by small letter."""
    asked = wishes(request)
    marks = list(_MARK.finditer(asked))
    found: dict[str, str] = {}
    for index, mark in enumerate(marks):
        letter = mark["letter"].lower()
        if letter == "a":
            found = {}
        if letter != chr(ord("a") + len(found)):
            continue
        end = marks[index + 1].start() if index + 1 < len(marks) else len(asked)
        found[letter] = normalise(asked[mark.end() : end].split("\n")[0].rstrip(" (,;"))
    distinct = len(set(found.values())) == len(found) and all(found.values())
    return found if len(found) > 1 and distinct else {}


def _ornament(sign: str) -> bool:
    return sign.isspace() or sign in _ATTACHED or unicodedata.category(sign) in _ORNAMENTS


def _unaccented(text: str) -> str:
    if text.isascii() or len(text) > LONGEST:
        return text
    bare = "".join(sign for sign in unicodedata.normalize("NFD", text) if sign not in _ACCENTS)
    return unicodedata.normalize("NFC", bare)
