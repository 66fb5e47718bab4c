"""The language of a text, roughly: by its script, and for scripts that many share by their commonest words.

A guess for slicing traffic: short texts and languages without a list are named by their script alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache
from types import MappingProxyType

SAMPLE_CHARACTERS = 2000
SCRIPTS = MappingProxyType(
    {
        "LATIN": "Latin letters",
        "CYRILLIC": "Cyrillic letters",
        "GREEK": "Greek",
        "ARABIC": "Arabic letters",
        "HEBREW": "Hebrew",
        "DEVANAGARI": "Devanagari",
        "BENGALI": "Bengali",
        "TAMIL": "Tamil",
        "THAI": "Thai",
        "HANGUL": "Korean",
        "HIRAGANA": "Japanese",
        "KATAKANA": "Japanese",
        "CJK": "Chinese",
    }
)
_WORDS = {
    "English": "the of and to in is that for it with as was on are be this what how you please",
    "German": "der die das und ist nicht ein eine mit für auf den von zu wie was ich bitte sich im",
    "French": "le la les des et est une dans pour que qui sur avec pas vous je ce il au du",
    "Spanish": "el la los las de y es una en para que por con no se un como del al lo",
    "Italian": "il lo la gli di e è una per che con non si un come del della sono nel le",
    "Portuguese": "o a os as de e é uma em para que por com não se um como do da no",
    "Dutch": "de het een en van is niet met voor op dat te zijn wat hoe ik je aan er om",
    "Polish": "i w na z do nie się jest że to co jak dla po od za przez oraz są ale",
    "Swedish": "och att det är en ett som på för med inte av till den har jag vad hur om var",
    "Turkish": "ve bir bu için ile ne nasıl da de çok olarak mi ama daha gibi ben var kadar en şu",
    "Russian": "и в не на что с по как это для из к у за от о но мы вы же",
    "Ukrainian": "і в не на що з як це для та до у за від про але ми ви її є",
}
_COMMON = MappingProxyType({name: frozenset(words.split()) for name, words in _WORDS.items()})
_LETTERS = re.compile(r"[^\W\d_]+")


def language(text: str) -> str:
    """A language's name, or that of a script; '' for a text without letters."""
    sample = text[:SAMPLE_CHARACTERS]
    scripts: Counter[str] = Counter()
    for letter, count in Counter(sample).items():
        if letter.isalpha():
            scripts[_script(letter)] += count
    if not scripts:
        return ""
    if scripts["Japanese"] and scripts["Japanese"] * 5 >= scripts["Chinese"]:
        return "Japanese"
    script = scripts.most_common(1)[0][0]
    return _by_words(sample) or script if script in ("Latin letters", "Cyrillic letters") else script


@cache
def _script(letter: str) -> str:
    return SCRIPTS.get(unicodedata.name(letter, "").partition(" ")[0], "another script")


def _by_words(text: str) -> str:
    """The language with most of its common words in the text: three at least, and more than any other has."""
    words = Counter(_LETTERS.findall(text.lower()))
    found = sorted(((sum(words[word] for word in common), name) for name, common in _COMMON.items()), reverse=True)
    (most, name), (second, _) = found[:2]
    return name if most >= 3 and most > second else ""
