"""Reading the final number of a text: `final_number`, and whether a text is little more than a number: `is_number`.

Read: thousands separators (1,234 and 1 234 with a no-break space), decimal commas (12,5), exponents, fractions,
currency signs, percent, units, scale words (5 million, 5k), "minus 5". Deliberately not read as numbers: dates, times,
versions, ranges, sums, codes, and integers with leading zeros (they are identifiers). Units are not converted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from router.evidence.compare.json_tree import QUIET

LONGEST_WORD = 10_000
NEAR_THE_END = 4  # a text of several numbers ends in its answer when the last number is among its last words
RELATIVE_TOLERANCE = Decimal("1e-6")
ABSOLUTE_TOLERANCE = Decimal("1e-4")
_SCALES = {"hundred": 2, "thousand": 3, "k": 3, "million": 6, "mn": 6, "billion": 9, "bn": 9, "trillion": 12}
_UNITS = {"percent": "%", "dollar": "$", "USD": "$", "usd": "$", "euro": "€", "EUR": "€", "pound": "£", "GBP": "£"}
_NEGATIVE = ("minus", "negative")
_OPENING, _CLOSING = "*`\"'(“‘\\", ".,;:!?*`\"')”’\\"
_GROUP_SPACE = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_RELATION = re.compile(r"[=≈→]")
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<currency>[$€£¥]?)(?:"
    r"(?P<numerator>\d+)/(?P<denominator>\d+)"
    r"|(?P<grouped>\d{1,3}(?:[,'_]\d{3})+(?:\.\d+)?)"
    r"|(?P<comma>\d{1,3}(?:\.\d{3})+,\d+|\d+,\d{1,2})"
    r"|(?P<plain>(?:(?!0\d)\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r")(?P<unit>%|[$€£¥k]|°[CFK]?|[mgslhVAWJNKCF](?![A-Za-z])|[A-Za-zµΩ][A-Za-z/²³°]{1,15})?\Z"
)
_LEAD_IN = re.compile(
    r"(?:(?:so|thus|therefore|hence),? )?"
    r"(?:(?:the |your )?(?:final |correct )?(?:answer|result|total|sum|value)(?: is| =|:| equals)"
    r"|it is|it's|it equals|that is|that's|=|####) ?:? ?",
    re.IGNORECASE,
)
_MARKER = re.compile(r"\\boxed\{|(?:answer|result)(?: is|:| =):?|####", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quantity:
    """`value` as written (50 for 50%), `unit` "" where none was given."""

    value: Decimal
    unit: str


def final_number(text: str) -> Quantity | None:
    """The number after the last "answer is", \\boxed or ####; else the only number, or a last one near the end."""
    words = _words(text)
    marked = _after_last_marker(" ".join(words))
    if marked is not None:
        return marked
    numeric = [index for index, word in enumerate(words) if _DIGIT.search(word)]
    if not numeric or (len(numeric) > 1 and len(words) - numeric[-1] > NEAR_THE_END):
        return None
    return _quantity(words, numeric[-1])


def is_number(text: str) -> bool:
    """Nothing but a number, a unit and a lead-in such as "The answer is"."""
    spread = " ".join(_words(text))
    lead_in = _LEAD_IN.match(spread)
    words = spread[lead_in.end() if lead_in else 0 :].split()
    start = 1 if words and words[0].lower() in _NEGATIVE else 0
    if not 1 <= len(words) - start <= 3 or any(_DIGIT.search(word) for word in words[start + 1 :]):
        return False
    return _quantity(words, start) is not None and _is_tail(words[start + 1 :])


def equal(left: Quantity, right: Quantity) -> bool:
    """Same value, and the same unit or one left out; a bare number may stand for a percent figure or its fraction."""
    if left.unit and right.unit:
        return left.unit == right.unit and _close(left.value, right.value)
    return _close(left.value, right.value) or _close(_fraction(left), _fraction(right))


def _close(left: Decimal, right: Decimal) -> bool:
    """Integers exactly; else within the smaller of the two tolerances (formatting of floats, not of cents)."""
    if left == right:
        return True
    if left == left.to_integral_value() and right == right.to_integral_value():
        return False
    largest = max(QUIET.abs(left), QUIET.abs(right))
    return QUIET.abs(QUIET.subtract(left, right)) <= min(
        QUIET.multiply(largest, RELATIVE_TOLERANCE), ABSOLUTE_TOLERANCE
    )


def _fraction(quantity: Quantity) -> Decimal:
    return QUIET.scaleb(quantity.value, -2) if quantity.unit == "%" else quantity.value


def _words(text: str) -> list[str]:
    return _RELATION.sub(" = ", _GROUP_SPACE.sub("", text.replace("−", "-"))).split()


def _after_last_marker(spread: str) -> Quantity | None:
    end = max((marker.end() for marker in _MARKER.finditer(spread)), default=None)
    if end is None:
        return None
    words = spread[end:].replace("}", " ").split()
    first = next((index for index, word in enumerate(words) if _DIGIT.search(word)), None)
    return None if first is None else _quantity(words, first)


def _quantity(words: list[str], index: int) -> Quantity | None:
    """The number at `index` with the sign word before and the scale and unit words after it."""
    before = words[index - 1].lower() if index else ""
    number = _parse(words[index])
    if number is None or ("/" in words[index] and before.isdigit()):  # 1 1/2 is not 1/2
        return None
    after = [word.strip(_CLOSING) for word in words[index + 1 : index + 4]]
    value, unit = number.value, number.unit
    if not unit and after and after[0].lower() in _SCALES:
        value = QUIET.scaleb(value, _SCALES[after.pop(0).lower()])
    if not unit and len(after) == 1 and _is_unit(after[0]):
        unit = _unit(after[0])
    return Quantity(QUIET.minus(value) if before in _NEGATIVE else value, unit)


def _parse(word: str) -> Quantity | None:
    if len(word) > LONGEST_WORD:
        return None
    bare = word.lstrip(_OPENING).rstrip(_CLOSING)
    if len(bare) > 2 and bare[0] == bare[-1] == "$":  # LaTeX
        bare = bare[1:-1]
    match = _NUMBER.match(bare)
    value = _value(match) if match else None
    if match is None or value is None or not value.is_finite():
        return None
    if match["sign"] == "-":
        value = value.copy_negate()
    if match["unit"] in _SCALES:
        return Quantity(QUIET.scaleb(value, _SCALES[match["unit"]]), match["currency"])
    return Quantity(value, match["currency"] or _unit(match["unit"] or ""))


def _value(match: re.Match[str]) -> Decimal | None:
    if match["numerator"]:
        return QUIET.divide(Decimal(match["numerator"]), Decimal(match["denominator"]))
    if match["grouped"]:
        return Decimal(re.sub(r"[,'_]", "", match["grouped"]), QUIET)
    if match["comma"]:
        return Decimal(match["comma"].replace(".", "").replace(",", "."), QUIET)
    return Decimal(match["plain"], QUIET)


def _is_tail(words: list[str]) -> bool:
    """The words after a number: a scale, a unit, or a scale and a unit."""
    bare = [word.strip(_CLOSING) for word in words]
    if bare and bare[0].lower() in _SCALES:
        bare = bare[1:]
    return not bare or (len(bare) == 1 and _is_unit(bare[0]))


def _is_unit(word: str) -> bool:
    return 0 < len(word) <= 20 and (word in "%$€£¥" or word[0] == "°" or word.replace("/", "").rstrip("²³").isalpha())


def _unit(word: str) -> str:
    """Case counts in short units (mW, MW) only; a plural is its singular."""
    name = word if len(word) <= 3 else word.lower().removesuffix("s")
    return _UNITS.get(name, name)
