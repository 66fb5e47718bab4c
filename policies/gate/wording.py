"""Features of an answer's words: how much it hedges, corrects itself and repeats, and whether it is about the question.

Words are those of `policies.learn.text`: lower-case bytes with every digit read as 0. The lexicons are English; in
another language they are silent, and the rest still speaks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

NAN = math.nan
_LEXICONS: dict[str, frozenset[bytes]] = {
    name: frozenset(words.encode().split())
    for name, words in {
        "hedges": "however but assume assuming assumes assumed maybe might perhaps possibly probably unclear depends"
        " unless although though could may seems",
        "corrections": "wait actually mistake mistaken correction apologize sorry instead recheck oops error incorrect",
        "denials": "impossible cannot can't unable insufficient enough possible determine negative information specify"
        " specified unknown",
        "roundings": "approximately about rounded rounding round roughly nearly almost around decimal nearest whole",
        "conclusions": "therefore thus hence so finally answer conclusion altogether total",
        "reasons": "since because given means",
        "algebra": "let equation variable solve solving denote represent x y substitute",
        "steps": "first second third next then step after now",
        "comparisons": "more less fewer than times twice half each per",
    }.items()
}
_PLACES = {
    word: tuple(place for place, lexicon in enumerate(_LEXICONS.values()) if word in lexicon)
    for word in frozenset[bytes]().union(*_LEXICONS.values())
}
_OF_REQUEST = ("roundings", "comparisons", "steps")
_COMPARISONS = list(_LEXICONS).index("comparisons")
_COMMON = frozenset(
    b"the of and to in is a that for it as was on are with be by this from at an or if he she they his her their has"
    b" have had how many much does do did will would what which who there its you your s t i we can not than then so"
    b" were".split()
)
_TAIL = 25  # words at the end of an answer in which it should say what was asked
_QUESTION = 25  # words at the end of a request in which it mostly says what it asks

NAMES: tuple[str, ...] = (
    "answer_words",
    "distinct_share",
    "distinct_pairs_share",
    *(f"answer_{name}" for name in _LEXICONS),
    *(f"request_{name}" for name in _OF_REQUEST),
    "request_comparisons_left",
    "question_in_tail",
    "question_in_answer",
    "request_in_answer",
    "answer_in_request",
    "opens_like_request",
)


def features(request: Sequence[bytes], answer: Sequence[bytes]) -> list[float]:
    """One value for each of `NAMES`; shares of nothing are NaN."""
    counts = _counts(answer)
    asked = dict(zip(_LEXICONS, _counts(request), strict=True))
    mine, theirs = set(answer), set(request)
    content = theirs - _COMMON
    question = set(request[-_QUESTION:]) - _COMMON
    return [
        float(len(answer)),
        len(mine) / len(answer) if answer else NAN,
        len(set(pairwise(answer))) / (len(answer) - 1) if len(answer) > 1 else NAN,
        *counts,
        *(asked[name] for name in _OF_REQUEST),
        asked["comparisons"] - counts[_COMPARISONS],
        _share(question, set(answer[-_TAIL:])),
        _share(question, mine),
        _share(content, mine),
        _share(mine - _COMMON, theirs),
        float(list(answer[:5]) == list(request[:5]) and len(answer) >= 5),
    ]


def _counts(words: Sequence[bytes]) -> list[float]:
    """How many of the words are in each lexicon."""
    counts = [0.0] * len(_LEXICONS)
    for places in filter(None, map(_PLACES.get, words)):
        for place in places:
            counts[place] += 1.0
    return counts


def _share(of: set[bytes], among: set[bytes]) -> float:
    return len(of & among) / len(of) if of else NAN
