"""Two texts that are one value in two notations: `same_value`, and `same_text` for what a person reads.

Moments (2031-02-03T10:00, 2031-02-03T10:00:00; with an offset the instant counts), telephone numbers and IBANs with and
without separators, SQL up to the case of its words, Unicode forms and typographic apostrophes. A moment without an
offset is none of those with one.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from router.evidence.compare.json_tree import QUIET
from router.evidence.compare.source_code import Block, tokens
from router.evidence.compare.text import APOSTROPHES, normalise

LONGEST = 10_000  # characters; beyond it only equal texts are the same
ROUNDED_PLACES, ROUNDED_DIGITS = 4, 5
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d[\d:.]{0,12}(?:Z|[+-]\d\d:?\d\d)?\Z")
_PHONE = re.compile(r"\+\d[\d ().\-/]{6,24}\Z")
_IBAN = re.compile(r"[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}\Z")
_SQL = re.compile(r"\s*(?:select|insert|update|delete|with)\s", re.IGNORECASE)
_NOT_DIGITS = re.compile(r"\D")


def same_value(left: str, right: str) -> bool:
    if max(len(left), len(right)) > LONGEST:
        return False
    if _MOMENT.match(left) and _MOMENT.match(right):
        return _same_moment(left, right)
    if _PHONE.match(left) and _PHONE.match(right):
        return _NOT_DIGITS.sub("", left) == _NOT_DIGITS.sub("", right)
    if _IBAN.match(left) and _IBAN.match(right):
        return left.replace(" ", "") == right.replace(" ", "")
    if _SQL.match(left) and _SQL.match(right):
        return tokens(Block("sql", left)) == tokens(Block("sql", right))
    return _composed(left) == _composed(right)


def same_text(left: str, right: str) -> bool:
    """Case, white space and the punctuation around it do not count."""
    return max(len(left), len(right)) <= LONGEST and normalise(left) == normalise(right)


def rounded(left: Decimal, right: Decimal) -> bool:
    """One is the other rounded, and still has four places and five digits: what formatting a float does, no money."""
    coarse, fine = sorted((left, right), key=_places)
    if _places(coarse) < ROUNDED_PLACES or len(coarse.as_tuple().digits) < ROUNDED_DIGITS:
        return False
    return fine.quantize(coarse, rounding=ROUND_HALF_UP, context=QUIET) == coarse


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _same_moment(left: str, right: str) -> bool:
    try:
        theirs, ours = datetime.fromisoformat(left), datetime.fromisoformat(right)
    except ValueError:
        return False
    return (theirs.tzinfo is None) == (ours.tzinfo is None) and theirs == ours


def _composed(text: str) -> str:
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", text.translate(APOSTROPHES)) if _short_runs(text) else text


def _short_runs(text: str) -> bool:
    """No long run of combining marks, which take time in the square of their number."""
    return sum(unicodedata.combining(sign) != 0 for sign in text) <= 512
