"""English number words as digits: "twenty-one apples" is "21 apples". Roman numerals, where a text is nothing else.

"One" is mostly no number ("no one", "the one that"), and does not count beside such words.
"""

from __future__ import annotations

import re

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES = {word: value for value, word in enumerate(_ONES.split())}
_TENS_VALUES = {word: (index + 2) * 10 for index, word in enumerate(_TENS.split())}
_PRONOUN = frozenset(["no", "any", "every", "some", "this", "that", "which", "the", "each", "another", "not"])
_AROUND = ".,;:!?*`\"'()"
_ROMAN = re.compile(r"(?=[IVXLCDM]{2})M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\Z")
_SIGNS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def spoken(words: list[str]) -> list[str]:
    """The words with number words as digits; all as they were where a number word is negated or is a pronoun."""
    if len(words) == 1 and _ROMAN.match(words[0].strip(_AROUND)):
        return [str(_roman(words[0].strip(_AROUND)))]
    found: list[str] = []
    tens: int | None = None
    for index, word in enumerate(words):
        bare = word.lower().strip(_AROUND)
        value = _value(bare)
        if value is None:
            found.append(word)
            tens = None
            continue
        if index and words[index - 1].lower().strip(_AROUND) in _PRONOUN:
            return words
        if tens is not None and 0 < value < 10:
            found[-1] = str(tens + value)
            tens = None
            continue
        found.append(str(value))
        tens = value if bare in _TENS_VALUES else None
    return found


def _value(word: str) -> int | None:
    tens, dash, ones = word.partition("-")
    if dash and tens in _TENS_VALUES and 0 < _VALUES.get(ones, 0) < 10:
        return _TENS_VALUES[tens] + _VALUES[ones]
    return _VALUES.get(word, _TENS_VALUES.get(word))


def _roman(numeral: str) -> int:
    values = [_SIGNS[sign] for sign in numeral]
    following = [*values[1:], 0]
    return sum(-value if value < after else value for value, after in zip(values, following, strict=True))
