"""Texts as sequences of words: how similar they are, and whether they plainly say the same.

A word is a run of letters and digits; of scripts without spaces each character is one. Linear in the text, except for
the similarity, whose words are bounded by `COMPARED`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from decimal import Decimal
from functools import cached_property

from rapidfuzz.distance import Indel

from router.evidence.compare.json_tree import QUIET

COMPARED = 4_000  # words whose order is compared: about 1 ms
PROSE_WORDS = 8
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f"  # kana, Han, Thai
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+(?:['’][^\W_{_ALONE}]+)*")
_NUMBER = re.compile(r"(?<![\w.])[-−+]?\d+(?:[,'’_\u00a0\u202f]\d{3})*(?:[.,]\d+)*(?![\d])")
_SYMBOLS = re.compile(r"[<>{}\[\]=|&;$\\^~@#*_+`/]|--")
_NOT = (
    "no not never none neither nor without cannot unable nicht kein keine keinen keiner nie niemals ohne ne pas jamais "
    "aucun aucune sans nunca ningún ninguna ni sin non mai nessun nessuna senza não sem niet geen nooit zonder "
    "不 没 沒 无 無 未 否 не нет никогда без"
)
# Whether they are there or not does not change what is said.
_SAYS_NOTHING = (
    "a an the this that these those is are it its it's that's there there's which so thus therefore then also just "
    "very really quite please sure certainly of course der die das den dem des ein eine einen einem einer ist sind "
    "le la les un une des est sont el los las una es son lo gli i uno"
)
_NEGATED = {"can": "can", "won": "will", "shan": "shall"}  # the stem before 't, where it is not all but its n
_ENDINGS = {"m": "am", "re": "are", "ve": "have", "ll": "will"}
_NEGATIONS = frozenset(_NOT.split())
_FILLERS = frozenset(_SAYS_NOTHING.split())
_NAME = re.compile(r"(?<![.!?:\n*#\"“(>-])(?<![.!?:*\-]\s)(?<=\s)([A-ZÀ-ÖØ-ÞΑ-ΩА-Я][^\W\d_]+)")


class Words:
    """The words of one text, in order, and what stands out among them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.folded = [_plain(word) for word in _WORD.findall(text)]

    def __len__(self) -> int:
        return len(self.folded)

    @cached_property
    def content(self) -> list[str]:
        """The words without those that say nothing of their own, contractions written out."""
        full = (part for word in self.folded for part in _written_out(word))
        return [word for word in full if word not in _FILLERS]

    @cached_property
    def marks(self) -> list[str]:
        """What another order would connect otherwise: words with a capital or a digit, in their order, folded."""
        every = (word for word in _WORD.findall(self.text) if word[0].isupper() or any(map(str.isdigit, word)))
        return [folded for folded in map(_plain, every) if folded not in _FILLERS]

    @cached_property
    def numbers(self) -> Counter[str]:
        """The numbers by value: 1,000.0 and 1000 are one."""
        return Counter(_value(match) for match in _NUMBER.findall(self.text))

    @cached_property
    def negations(self) -> int:
        return sum(part in _NEGATIONS for word in self.folded for part in _written_out(word))

    @cached_property
    def names(self) -> frozenset[str]:
        """Words with a capital that do not open a sentence, folded: people, places, products."""
        return frozenset(_plain(name) for name in _NAME.findall(self.text))


def similarity(left: str | Words, right: str | Words) -> float:
    """Words in common in the same order (normalised Indel similarity), in [0, 1]; of a long text its first words."""
    ours, theirs = (side if isinstance(side, Words) else Words(side) for side in (left, right))
    return Indel.normalized_similarity(ours.folded[:COMPARED], theirs.folded[:COMPARED])


def plainly_same(left: str | Words, right: str | Words) -> bool:
    """The same words that say something, negations among them, in almost the same order, and the same numbers."""
    ours, theirs = (side if isinstance(side, Words) else Words(side) for side in (left, right))
    if ours.numbers != theirs.numbers or Counter(ours.content) != Counter(theirs.content) or not ours.content:
        return False
    if ours.content == theirs.content:
        return True
    if ours.marks != theirs.marks:
        return False
    return len(ours.content) >= 20 and _order(ours.content, theirs.content) >= 0.9


def reads_as_prose(text: str) -> bool:
    """Long enough to be a sentence, and without the signs of code, paths and markup."""
    return text.count(" ") + 1 >= PROSE_WORDS and _SYMBOLS.search(text) is None


def _order(left: list[str], right: list[str]) -> float:
    if len(left) > COMPARED:  # a bag of so many equal words in another order: not looked at
        return 0.0
    return Indel.normalized_similarity(left, right)


def _written_out(word: str) -> tuple[str, ...]:
    """don't: do not. What ends in 's is left: it is, it has, or whose."""
    if word == "cannot":
        return ("can", "not")
    stem, apostrophe, rest = word.partition("'")
    if not apostrophe:
        return (word,)
    if rest == "t" and stem.endswith("n"):
        return (_NEGATED.get(stem, stem.removesuffix("n")), "not")
    return (stem, _ENDINGS[rest]) if rest in _ENDINGS else (word,)


def _plain(word: str) -> str:
    if word.isascii():
        return word.lower()
    folded = "".join(unicodedata.normalize("NFKC", word[start : start + 64]) for start in range(0, len(word), 64))
    return folded.casefold().replace("’", "'")


def _value(token: str) -> str:
    bare = re.sub(r"[,'’_\u00a0\u202f](?=\d{3}(?!\d))", "", token).replace("−", "-").removeprefix("+")
    try:
        value = QUIET.normalize(Decimal(bare.replace(",", ".")))
    except ArithmeticError:  # 1.2.3
        return bare
    return f"{value:f}"
