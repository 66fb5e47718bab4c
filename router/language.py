"""The script and, where it is plain, the language of a text. Small profiles: None is a frequent and honest answer.

Used where a wrong guess is cheap: to tell that two answers are not in one language, and to slice traffic.
"""

from __future__ import annotations

import re
from collections import Counter

LOOKED_AT = 4_000  # characters
_LEAST_LETTERS = 12
_SHARE = 0.6
_SCRIPTS = {
    "Latin": re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]"),
    "Greek": re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]"),
    "Cyrillic": re.compile(r"[\u0400-\u052f]"),
    "Hebrew": re.compile(r"[\u0590-\u05ff]"),
    "Arabic": re.compile(r"[\u0600-\u06ff\u0750-\u077f]"),
    "Devanagari": re.compile(r"[\u0900-\u097f]"),
    "Thai": re.compile(r"[\u0e00-\u0e7f]"),
    "Hangul": re.compile(r"[\uac00-\ud7af\u1100-\u11ff]"),
    "Kana": re.compile(r"[\u3040-\u30ff]"),
    "Han": re.compile(r"[\u3400-\u9fff\uf900-\ufaff]"),
}
# The commonest words that few of the other languages here share.
_PROFILES = {
    "en": "the and of is that it for with this are was you have not be they from your which will",
    "de": "der die und das ist nicht ein eine mit für auf den dem sich auch werden sie wird zu sind",
    "fr": "le les et est des une dans que pour qui pas sur avec vous ce sont au cette plus être",
    "es": "el los y es que una por con para del las está como más pero su son muy también esta",
    "it": "il di che è per una con sono della non gli anche questo più dei nel alla come delle si",
    "pt": "o os e é que uma para com não do da em mais você são como dos das também isso",
    "nl": "de het een en van is niet dat met voor zijn op aan ook wordt deze worden naar bij door",
    "pl": "i w nie na się jest to że z do jak są przez oraz ale może który dla od być",
    "sv": "och att det är en som på för med inte av den till om har ett kan du vi från",
    "tr": "ve bir bu için ile ne nasıl da çok olarak mi ama daha gibi ben var kadar şu",
    "ru": "и в не на что с по как это из к у от о но мы вы же",
    "uk": "і в не на що з як це та у від про але ми ви її є",
}
_WORDS = {language: frozenset(words.split()) for language, words in _PROFILES.items()}
_LEAST_HITS = 3
_WORD = re.compile(r"[^\W\d_]+")


def script(text: str, least_letters: int = _LEAST_LETTERS) -> str | None:
    """The script of most letters; Japanese is "Kana" where a tenth is. None where there are few letters."""
    sample = text[:LOOKED_AT]
    counts = {name: len(pattern.findall(sample)) for name, pattern in _SCRIPTS.items()}
    total = sum(counts.values())
    if total < least_letters:
        return None
    if counts["Kana"] * 10 >= total and counts["Kana"] + counts["Han"] >= total * _SHARE:
        return "Kana"
    name = max(counts, key=lambda each: counts[each])
    return name if counts[name] >= total * _SHARE else None


def language(text: str) -> str | None:
    """The language, as in ISO 639-1, of a Latin or Cyrillic text whose commonest words give it away."""
    words = Counter(word.lower() for word in _WORD.findall(text[:LOOKED_AT]))
    hits = {name: sum(words[word] for word in profile) for name, profile in _WORDS.items()}
    first, second = sorted(hits, key=lambda name: hits[name], reverse=True)[:2]
    return first if hits[first] >= _LEAST_HITS and hits[first] >= 2 * hits[second] else None


def other_language(left: str, right: str) -> str | None:
    """What tells that the texts are in different languages, for a person; None where nothing does."""
    theirs, ours = script(left), script(right)
    if theirs and ours and theirs != ours:
        return f"{theirs} script and {ours} script"
    if theirs == ours == "Latin":
        theirs, ours = language(left), language(right)
        if theirs and ours and theirs != ours:
            return f"language {theirs} and {ours}"
    return None
