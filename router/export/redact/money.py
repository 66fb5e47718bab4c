"""Payment cards and bank accounts: by their check digits, so that other long numbers stay.

A card number has the prefix and length of an issuer (ISO/IEC 7812) and passes Luhn. An IBAN has the length of its
country (ISO 13616, the SWIFT registry) and the remainder 1 modulo 97.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from router.export.redact.base import Span

_CARD = re.compile(r"(?<![\w.,+-])[0-9](?:[ -]?[0-9]){12,18}(?![\w-]|[.,][0-9])")
_ISSUERS = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|(?:6011|65[0-9]{2}|64[4-9][0-9])[0-9]{12}"  # Discover
    r"|3(?:0[0-5]|[68][0-9])[0-9]{11}"  # Diners Club
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12}"  # JCB
    r"|62[0-9]{14,17}"  # UnionPay
)

_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        "([A-Z]{2})([0-9]{2})",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
        "YE30",
    )
}
_IBAN_START = re.compile(r"(?<![^\W_])[A-Za-z]{2}[0-9]{2}(?=[ -]?[A-Za-z0-9]{4})")


class Card:
    def find(self, text: str) -> Iterator[Span]:
        for match in _CARD.finditer(text):
            digits = re.sub("[ -]", "", match[0])
            if is_card(digits):
                yield Span(match.start(), match.end(), "CARD", digits)


def is_card(digits: str) -> bool:
    return _ISSUERS.fullmatch(digits) is not None and luhn(digits)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right is doubled; the sum of all digits divides by ten."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


class Iban:
    def find(self, text: str) -> Iterator[Span]:
        for match in _IBAN_START.finditer(text):
            length = _IBAN_LENGTHS.get(match[0][:2].upper())
            end = length and _end_of(text, match.start(), length)
            if not end:
                continue
            account = re.sub("[ -]", "", text[match.start() : end]).upper()
            if _remainder(account) == 1:
                yield Span(match.start(), end, "IBAN", account)


def _end_of(text: str, start: int, length: int) -> int | None:
    """Where `length` letters and digits end that are written alone or in groups; None where they are not there."""
    grouped = re.compile(rf"(?:[A-Za-z0-9][ -]?){{{length - 1}}}[A-Za-z0-9](?![^\W_])")
    match = grouped.match(text, start)
    return match.end() if match else None


def _remainder(account: str) -> int:
    return int("".join(str(int(c, 36)) for c in account[4:] + account[:4])) % 97
