"""E-mail addresses and telephone numbers.

A telephone number is one that Google's numbering plans know (`phonenumbers`), so that ordinary numbers stay:

- with a `+` and its country code, where the plan has it, or where it is written in groups and is long enough;
- in the forms `(415) 555-2671` and `415-555-2671`, where the North American plan has it;
- any 7 to 15 digits right after a word that says so ("phone", "Tel.", "mobile", also as the key of a JSON object).

Not found: national numbers of other countries that nothing announces, and numbers in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from phonenumbers import Leniency, PhoneNumberMatcher

from router.export.redact.base import Pattern, Span

EMAIL = Pattern(
    "EMAIL",
    re.compile(
        r"(?<![\w.+-])[\w][\w.+'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w-])", re.UNICODE
    ),
    marker="@",
    lower=True,
)

_MAY_BE_PHONE = re.compile(r"\+[\s(]?[0-9]")
_AREA = "[2-9][0-9]{2}"
_NORTH_AMERICAN = re.compile(
    rf"(?<![\w.+-])(?:\({_AREA}\) ?{_AREA}-[0-9]{{4}}|{_AREA}([-.]){_AREA}\1[0-9]{{4}})(?![\w-])"
)
_NUMBER_OF = r"(?:[ _-]?(?:number|no|nr))?"
_WORDS = (
    rf"(?:tele|mobile|mobil|cell)?[ _-]?(?:phone|fon|fono|foon)s?{_NUMBER_OF}",
    rf"(?:tel|mobile|mobil|handy|cell|fax|whatsapp|téléphone|teléfono|móvil|cellulare){_NUMBER_OF}",
    "rufnummer",
    "(?:call|text|ring|reach) (?:me|us|him|her|them) (?:at|on)",
)
_ANNOUNCED = re.compile(
    rf"(?<![^\W_])(?:{'|'.join(_WORDS)})(?![^\W_])[^\w+(\[]{{0,8}}"
    r"(?P<number>\+?\(?[0-9][0-9 ()./-]{5,22}[0-9])(?!\w)",
    re.IGNORECASE,
)
_SEPARATED = re.compile(r"[0-9)][ ().-]+[(0-9]")
_MIN_DIGITS, _MAX_DIGITS = 7, 15  # E.164 ends at 15
_SURE_DIGITS = 10  # in groups after a plus: hardly a sum
_MATCHES_AT_MOST = 65_535


class Phone:
    """See the module."""

    def find(self, text: str) -> Iterator[Span]:
        if _MAY_BE_PHONE.search(text):
            yield from _international(text)
        for match in _NORTH_AMERICAN.finditer(text):
            if next(iter(PhoneNumberMatcher(match[0], "US", Leniency.VALID)), None):
                yield _span(match.start(), match.end(), "1" + match[0])
        for match in _ANNOUNCED.finditer(text):
            if _MIN_DIGITS <= len(_digits(match["number"])) <= _MAX_DIGITS:
                yield _span(match.start("number"), match.end("number"), match["number"])


def _international(text: str) -> Iterator[Span]:
    for leniency in (Leniency.VALID, Leniency.POSSIBLE):
        for match in PhoneNumberMatcher(text, None, leniency, _MATCHES_AT_MOST):
            number = match.raw_string.lstrip("( ")  # a bracket around all of it is none of it
            if leniency == Leniency.VALID or (_SEPARATED.search(number) and len(_digits(number)) >= _SURE_DIGITS):
                yield _span(match.end - len(number), match.end, number)


def _span(start: int, end: int, number: str) -> Span:
    return Span(start, end, "PHONE", _digits(number))


def _digits(text: str) -> str:
    return "".join(c for c in text if c in "0123456789")
