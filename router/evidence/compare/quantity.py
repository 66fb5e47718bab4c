"""Reading the final number of a text: `final_number`, and whether a text is little more than a number: `is_number`.

Read: thousands separators (1,234 and 1 234 with a no-break space; 1.250.000, and 1.250 before a euro sign), decimal
commas (12,5), exponents (1.5e3, 1.5 × 10^3), fractions (3/4, \\frac{3}{4}), currency signs, percent, units, scale words
(5 million, $5m, 5k), "minus 5", and where a short text has no digit, one number in words ("twenty-one"). Deliberately
not read as numbers: dates, times, versions, ranges, sums, codes, and integers with leading zeros (they are
identifiers). Units of length, mass, volume, time and data are converted where their sign has one meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from router.evidence.compare.json_tree import QUIET
from router.evidence.compare.number_words import spoken

LONGEST_WORD = 10_000
NEAR_THE_END = 4  # a text of several numbers ends in its answer when the last number is among its last words
SPOKEN_WORDS = 12  # in a longer text "one" and "two" are mostly no answer
CONCLUSION = 200  # characters at the end of a text in which a marked result is the answer
RELATIVE_TOLERANCE = Decimal("1e-6")
ABSOLUTE_TOLERANCE = Decimal("1e-4")
_SCALES = {
    **{"hundred": 2, "thousand": 3, "k": 3, "million": 6, "millions": 6, "mn": 6, "mio": 6, "millionen": 6},
    **{"billion": 9, "billions": 9, "bn": 9, "mrd": 9, "milliarde": 9, "milliarden": 9, "trillion": 12},
}
_MONEY_SCALES = {"k": 3, "K": 3, "m": 6, "M": 6, "mn": 6, "b": 9, "B": 9, "bn": 9}  # right after an amount: $5m
_CURRENCIES = frozenset("$€£¥")
_UNITS = {
    **{"percent": "%", "prozent": "%", "dollar": "$", "USD": "$", "usd": "$", "euro": "€", "EUR": "€", "pound": "£"},
    **{"GBP": "£", "pp": "percentage point", "percentage points": "percentage point"},
}
# The first of two words that are one unit; any other pair of words is read as no unit.
_TWO_WORDS = frozenset({"percentage", "square", "cubic", "nautical", "light", "metric"})
_LENGTH = {"mm": "0.001", "cm": "0.01", "m": "1", "meter": "1", "metre": "1", "km": "1000", "kilometer": "1000"}
_MASS = {"mg": "0.001", "g": "1", "gram": "1", "kg": "1000", "kilogram": "1000"}
_VOLUME = {"ml": "0.001", "mL": "0.001", "l": "1", "L": "1", "liter": "1", "litre": "1"}
_TIME = {"ms": "0.001", "s": "1", "sec": "1", "second": "1", "min": "60", "minute": "60", "h": "3600", "hour": "3600"}
_DATA = {"kB": "1e3", "KB": "1e3", "MB": "1e6", "GB": "1e9", "TB": "1e12", "KiB": "1024", "MiB": "1048576"}
_DIMENSIONS = {
    "length": _LENGTH,
    "mass": {**_MASS, "tonne": "1e6"},
    "volume": _VOLUME,
    "time": {**_TIME, "day": "86400", "week": "604800"},
    "data": {**_DATA, "GiB": "1073741824"},
}
_CONVERTED = {
    unit: (dimension, Decimal(factor)) for dimension, units in _DIMENSIONS.items() for unit, factor in units.items()
}
_NEGATIVE = ("minus", "negative")
_OPENING, _CLOSING = "*`\"'(“‘\\", ".,;:!?*`\"')”’\\"
_GROUP_SPACE = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_RELATION = re.compile(r"[=≈→]")
_DIGIT = re.compile(r"\d")
_POWER = re.compile(r"(?<=\d) ?(?:×|\\times|\\cdot|[x*·]) ?10(?:\^|\*\*) ?(?:\{([+-]?\d{1,6})\}|([+-]?\d{1,6}))")
_SUPERSCRIPT = re.compile(r"(?<=10)[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,6}")
_PLAIN_DIGITS = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_FRACTION = re.compile(r"(?<![\d}])\\[dt]?frac\{(\d{1,50})\}\{(\d{1,50})\}")
_THOUSANDS_POINT = re.compile(r"(?P<lead>[+-]?[1-9]\d{0,2})\.(?P<group>\d{3})\Z")
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<currency>[$€£¥]?)(?:"
    r"(?P<numerator>\d+)/(?P<denominator>\d+)"
    r"|(?P<grouped>\d{1,3}(?:[,'_]\d{3})+(?:\.\d+)?)"
    r"|(?P<dotted>[1-9]\d{0,2}(?:\.\d{3}){2,}(?!\d|,\d))"
    r"|(?P<comma>\d{1,3}(?:\.\d{3})+,\d+|\d+,\d{1,2})"
    r"|(?P<plain>(?:(?!0\d)\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r")(?P<unit>%|[$€£¥kKMbB]|°[CFK]?|[mgslhVAWJNKCF](?![A-Za-z])|[A-Za-zµΩ][A-Za-z/²³°]{1,15})?\Z"
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
    """`value` as written (50 for 50%), `unit` "" where none was given; `ratio`: written as a fraction of integers."""

    value: Decimal
    unit: str
    ratio: bool = False


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Either is enough. Both 0: integers exactly, else what the formatting of floats changes, but not cents."""

    relative: Decimal = Decimal(0)
    absolute: Decimal = Decimal(0)


def final_number(text: str) -> Quantity | None:
    """The number after the last "answer is", \\boxed or ####; else the only number, or a last one near the end."""
    words = _words(text)
    if len(words) <= SPOKEN_WORDS and not _DIGIT.search(text):
        words = spoken(words)
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


def concludes(text: str) -> bool:
    """The last words mark a number as the result: "The answer is 42.", \\boxed{42}, #### 42."""
    spread = " ".join(_words(text[-CONCLUSION:]))
    return _after_last_marker(spread) is not None


def equal(left: Quantity, right: Quantity, tolerance: Tolerance = Tolerance()) -> bool:
    """Same value, and the same unit or one left out; a bare number may stand for a percent figure or its fraction."""
    if left.unit and right.unit and left.unit != right.unit:
        return _equal_converted(left, right, tolerance)
    if left.unit and right.unit:
        return _close(left.value, right.value, tolerance)
    if left.ratio != right.ratio and _rounded(*((left, right) if left.ratio else (right, left))):
        return True
    return _close(left.value, right.value, tolerance) or _close(_fraction(left), _fraction(right), tolerance)


def nearly(left: Quantity, right: Quantity) -> bool:
    """One is the other rounded to at least two significant digits, in the same unit or with one left out."""
    if left.unit and right.unit and left.unit != right.unit:
        return False
    short, fine = sorted((QUIET.normalize(side.value) for side in (left, right)), key=_places)
    return len(short.as_tuple().digits) >= 2 and _round(fine, _places(short)) == short


def _rounded(ratio: Quantity, other: Quantity) -> bool:
    """10/3 and 3.333: a decimal of three places or more that the fraction rounds to."""
    return _places(other.value) >= 3 and _round(ratio.value, _places(other.value)) == other.value


def _places(value: Decimal) -> int:
    """Digits behind the point; below 0 for a number that ends in zeros before it, once it is in normal form."""
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _round(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal((0, (1,), -places)), rounding=ROUND_HALF_UP, context=QUIET)


def _equal_converted(left: Quantity, right: Quantity, tolerance: Tolerance) -> bool:
    theirs, ours = _CONVERTED.get(left.unit), _CONVERTED.get(right.unit)
    if theirs is None or ours is None or theirs[0] != ours[0]:
        return False
    return _close(QUIET.multiply(left.value, theirs[1]), QUIET.multiply(right.value, ours[1]), tolerance)


def _close(left: Decimal, right: Decimal, tolerance: Tolerance) -> bool:
    if left == right:
        return True
    gap, largest = QUIET.abs(QUIET.subtract(left, right)), max(QUIET.abs(left), QUIET.abs(right))
    if gap <= max(tolerance.absolute, QUIET.multiply(largest, tolerance.relative)):
        return True
    if left == left.to_integral_value() and right == right.to_integral_value():
        return False
    return gap <= min(QUIET.multiply(largest, RELATIVE_TOLERANCE), ABSOLUTE_TOLERANCE)


def _fraction(quantity: Quantity) -> Decimal:
    return QUIET.scaleb(quantity.value, -2) if quantity.unit == "%" else quantity.value


def _words(text: str) -> list[str]:
    """The words, with powers of ten as exponents and LaTeX fractions as plain ones."""
    spread = _RELATION.sub(" = ", _GROUP_SPACE.sub("", text.replace("−", "-")))
    spread = _FRACTION.sub(r"\1/\2", _SUPERSCRIPT.sub(lambda power: "^" + power[0].translate(_PLAIN_DIGITS), spread))
    return _POWER.sub(lambda power: f"e{power[1] or power[2]}", " ".join(spread.split())).split()


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
    if after and after[0].lower() in _SCALES and (not unit or unit in _CURRENCIES):
        value = QUIET.scaleb(value, _SCALES[after.pop(0).lower()])
    if not unit and after:
        unit = _spelled_unit(after)
    if unit == "€" and not words[index].lstrip(_OPENING).startswith("€"):
        value = _with_thousands_point(words[index], value)
    return Quantity(QUIET.minus(value) if before in _NEGATIVE else value, unit, number.ratio)


def _spelled_unit(after: list[str]) -> str:
    """The unit that ends the text in a word, or in two that are one unit."""
    if len(after) == 1 and _is_unit(after[0]):
        return _unit(after[0])
    if len(after) == 2 and after[0].lower() in _TWO_WORDS:
        return _unit(f"{after[0]} {after[1]}")
    return ""


def _with_thousands_point(word: str, value: Decimal) -> Decimal:
    """1.250 before a euro sign is written as in Germany: nobody gives tenths of a cent there."""
    match = _THOUSANDS_POINT.match(word.strip(_OPENING + _CLOSING + "€"))
    return Decimal(match["lead"] + match["group"]) if match else value


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
    if match["currency"] and match["unit"] in _MONEY_SCALES:
        return Quantity(QUIET.scaleb(value, _MONEY_SCALES[match["unit"]]), match["currency"])
    if match["unit"] in _SCALES:
        return Quantity(QUIET.scaleb(value, _SCALES[match["unit"]]), match["currency"])
    return Quantity(value, match["currency"] or _unit(match["unit"] or ""), bool(match["numerator"]))


def _value(match: re.Match[str]) -> Decimal | None:
    if match["numerator"]:
        return QUIET.divide(Decimal(match["numerator"]), Decimal(match["denominator"]))
    if match["grouped"]:
        return Decimal(re.sub(r"[,'_]", "", match["grouped"]), QUIET)
    if match["dotted"]:
        return Decimal(match["dotted"].replace(".", ""), QUIET)
    if match["comma"]:
        return Decimal(match["comma"].replace(".", "").replace(",", "."), QUIET)
    return Decimal(match["plain"], QUIET)


def _is_tail(words: list[str]) -> bool:
    """The words after a number: a scale, a unit, or a scale and a unit."""
    bare = [word.strip(_CLOSING) for word in words]
    if bare and bare[0].lower() in _SCALES:
        bare = bare[1:]
    return not bare or _spelled_unit(bare) != ""


def _is_unit(word: str) -> bool:
    return 0 < len(word) <= 20 and (word in "%$€£¥" or word[0] == "°" or word.replace("/", "").rstrip("²³").isalpha())


def _unit(word: str) -> str:
    """Case counts in short units (mW, MW) only; a plural is its singular."""
    name = word if len(word) <= 3 else word.lower().removesuffix("s")
    return _UNITS.get(name, name)
