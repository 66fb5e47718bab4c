"""A request as numbers: dense structure, hashed words, and who asks. The same in training and live.

Beyond `text.LONGEST` characters the text is sampled. What it does not see: meaning beyond words and their pairs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log1p, sqrt
from operator import itemgetter
from zlib import crc32

import numpy as np

from policies.learn import text as texts
from policies.learn.rows import Floats, Ints, Rows, Sparse
from policies.query import Query

BITS = 17  # 2**17 columns of words
IDENTITY_BITS = 13
_IDENTITIES, _IDENTITY_SHIFT = 1 << BITS, 32 - IDENTITY_BITS
WIDTH = _IDENTITIES + (1 << IDENTITY_BITS)
_NEEDS = ("tools", "json_schema", "images", "logprobs", "n")
_CLASSES = (
    ("digits", "0123456789"),
    ("capitals", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ("lines", "\n"),
    ("blanks", " \t"),
    ("operators", "+*/=<>^%"),
    ("brackets", "()[]"),
    ("code_signs", "_;#|&\\`"),
    ("dollars", "$"),
    ("question_marks", "?"),
    ("commas", ","),
    ("stops", ".!"),
    ("quotes", "\"'"),
    ("hyphens", "-"),
    ("colons", ":"),
)
_BRACES = "{}"  # brackets and code signs alike
_LEXICONS: dict[str, frozenset[bytes]] = {
    name: frozenset(words.encode().split())
    for name, words in {
        "asks_what": "what which who whom whose",
        "asks_how": "how why explain describe prove show derive",
        "asks_where_when": "where when year date",
        "negations": "not no never except least incorrect false without cannot n t",
        "choices": "following all none both above below neither either best most",
        "quantities": "many much total number each every per average sum more less than fewer left remaining",
        "fractions": "half twice thrice double triple third quarter times percent percentage ratio fraction",
        "money_time": "cost costs price pay paid buy sell dollars cents hours minutes days weeks months years",
        "mathematics": "equation function integer polynomial triangle angle matrix probability prime solve find value",
        "code": "def return function python class list string array code int import print assert write",
        "science": "energy mass electron atom molecule cell protein dna acid species force velocity temperature",
        "society": "law state government war century according argument moral policy president rights",
        "conditionals": "if then suppose assume given unless whether because therefore",
        "numerals": "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred "
        "thousand million dozen first second",
        "comparisons": "than as older younger taller shorter longer bigger smaller faster slower same equal rest",
        "rates": "per hourly daily hour day week month rate speed interest discount tax",
        "pronouns": "he she his her they their its him our we",
        "common": "the of and to in is a that for it as was on are with be by this from at an or",
        "orders": "write list give translate summarize create generate make answer only please complete sentence",
    }.items()
}
_KNOWN = frozenset().union(*_LEXICONS.values())
_ONES = {  # in the byte of each lexicon that has the word, so that one sum of integers counts for all of them
    word: sum(1 << 8 * place for place, lexicon in enumerate(_LEXICONS.values()) if word in lexicon) for word in _KNOWN
}
_CHOICE = re.compile(r"\n\(?[A-Ja-j][.):] ?(.*)")
_NUMBER = re.compile(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
_NUMBER_BYTES = bytes(byte if chr(byte) in "0123456789,." else ord(" ") for byte in range(256))
_SLASHED = re.compile(rb"[0-9]/[0-9]")
_FROM_DIGIT = re.compile(r"[0-9].*")
_LEADING_DIGITS = itemgetter(slice(15))
_FIELDS = tuple(map(crc32, (b"tenant\0", b"key\0", b"route\0", b"system\0")))
_COUNTED = (*(name for name, _ in _CLASSES), "other_bytes")
_LINES, _STOPS, _QUESTIONS, _BRACKETS, _CODE = map(
    _COUNTED.index, ("lines", "stops", "question_marks", "brackets", "code_signs")
)
_PLACE_OF = {
    **{ord(member): place for place, (_, members) in enumerate(_CLASSES) for member in members},
    **dict.fromkeys(range(128, 256), _COUNTED.index("other_bytes")),
    **dict.fromkeys(map(ord, _BRACES), len(_COUNTED)),
}
_PLACES = bytes(_PLACE_OF.get(byte, 0) for byte in range(256))
_UNCOUNTED = bytes(byte for byte in range(256) if byte not in _PLACE_OF)
STRUCTURE: tuple[str, ...] = (
    "log_characters",
    "log_words",
    "log_system",
    "log_whole",
    "log_turns",
    "log_tools",
    "log_output_tokens",
    "output_limited",
    *(f"needs_{need}" for need in _NEEDS),
    *(f"share_{name}" for name in _COUNTED),
    "word_length",
    "distinct_words",
    "sentence_words",
    "log_lines",
    "log_questions",
    "choices",
    "choice_words",
    "choice_spread",
    "choice_numbers",
    "log_numbers",
    "distinct_numbers",
    "log_largest_number",
    "log_sum_of_numbers",
    "decimals",
    "numbers_a_sentence",
    "slashed_numbers",
    "log_last_sentence",
    "share_last_sentence",
    "ends_with_question",
    *(f"words_{name}" for name in _LEXICONS),
)
VERSION = f"1.{len(STRUCTURE)}"  # of the columns' meaning; a trained policy of another one is refused


@dataclass(frozen=True, slots=True)
class Features:
    """Of one request: `dense` (len(STRUCTURE),), and the sparse columns with their values."""

    dense: Floats
    columns: Ints
    values: Floats
    words: int
    """How many of the first columns are words; the rest says who asks."""


def extract(query: Query) -> Features:
    """All features of one request."""
    last = texts.sample(query.last or query.whole)
    of = texts.words(last)
    hashed = [texts.columns(of, BITS)]
    if query.turns > 1 and query.whole != query.last:
        hashed.append(texts.columns(texts.words(texts.sample(query.whole)), BITS, salt=1))
    who = _identity(query)
    columns = np.concatenate((*hashed, who))
    values, words = np.empty(len(columns)), 0
    for part in filter(len, hashed):
        values[words : words + len(part)] = len(part) ** -0.5
        words += len(part)
    values[words:] = 1.0
    return Features(_structure(query, last, of), columns, values, words)


def structure(query: Query) -> Floats:
    """The dense part alone, shape (len(STRUCTURE),)."""
    last = texts.sample(query.last or query.whole)
    return _structure(query, last, texts.words(last))


def rows(features: Sequence[Features], *, words: bool = True) -> Rows:
    """Of many requests, for the learners; without `words` the sparse columns say only who asks."""
    dense = np.array([each.dense for each in features]).reshape(len(features), len(STRUCTURE))
    kept = [slice(0 if words else each.words, None) for each in features]
    columns = [(each.columns[part], each.values[part]) for each, part in zip(features, kept, strict=True)]
    return Rows(dense, Sparse.of(columns, WIDTH))


def _identity(query: Query) -> Ints:
    """One column each for the tenant, the key, the route and the system prompt, where there is one."""
    system = hashlib.blake2b(query.system.encode("utf-8", "replace"), digest_size=8).hexdigest() if query.system else ""
    named = zip(_FIELDS, (query.tenant, query.key, query.route, system), strict=True)
    hashed = [crc32(value.encode("utf-8", "replace"), field) for field, value in named if value]
    return np.array([_IDENTITIES + (each >> _IDENTITY_SHIFT) for each in hashed], dtype=np.int64)


def _structure(query: Query, last: str, of: list[bytes]) -> Floats:
    raw = last.encode("utf-8", "replace")
    counts = _counts(raw)
    size = max(len(raw), 1)
    words, distinct = len(of), set(of)
    sentences = counts[_STOPS] + counts[_QUESTIONS] + 1
    closing = _last_sentence(last)
    dense = [
        log1p(len(query.last or query.whole)),
        log1p(words),
        log1p(len(query.system)),
        log1p(len(query.whole)),
        log1p(max(query.turns - 1, 0)),
        log1p(query.tools),
        log1p(query.output_tokens or 0),
        float(query.output_tokens is not None),
        *[float(need in query.needs) for need in _NEEDS],
        *[sqrt(count / size) for count in counts],
        len(raw) / max(words, 1),
        len(distinct) / max(words, 1),
        log1p(words / sentences),
        log1p(counts[_LINES]),
        log1p(counts[_QUESTIONS]),
        *_choices(last),
        *_numbers(raw, sentences),
        log1p(closing),
        closing / max(len(last), 1),
        float(last.rstrip().endswith("?")),
        *_in_lexicons(distinct),
    ]
    return np.array(dense)


def _counts(raw: bytes) -> list[int]:
    """How many of the bytes belong to each of `_COUNTED`."""
    places = np.frombuffer(raw.translate(_PLACES, _UNCOUNTED), dtype=np.uint8)
    counts: list[int] = np.bincount(places, minlength=len(_COUNTED) + 1).tolist()
    braces = counts.pop()
    counts[_BRACKETS] += braces
    counts[_CODE] += braces
    return counts


def _in_lexicons(distinct: set[bytes]) -> list[float]:
    """Square roots of how many different words of each of `_LEXICONS` there are."""
    counts = sum([_ONES[word] for word in _KNOWN.intersection(distinct)])
    return [sqrt(count) for count in counts.to_bytes(len(_LEXICONS), "little")]


def _last_sentence(last: str) -> int:
    """Characters of the last sentence or line."""
    end = len(last.rstrip()) - 1
    before = last.rfind("\n", 0, end)
    for mark in (". ", "? ", "! "):
        before = max(before, last.rfind(mark, before + 1, end))
    return max(0, end - before)


def _choices(last: str) -> tuple[float, float, float, float]:
    """How many lines begin like a choice; their length, how it varies, and the share with a digit."""
    found = _CHOICE.findall(f"\n{last}") if "\n" in last else []
    if not found:
        return 0.0, 0.0, 0.0, 0.0
    lengths = [len(choice) for choice in found]
    mean = sum(lengths) / len(lengths)
    spread = (max(lengths) - min(lengths)) / (mean + 1)
    digits = len(_FROM_DIGIT.findall("\n".join(found))) / len(found)
    return float(len(found)), log1p(mean), spread, digits


def _numbers(raw: bytes, sentences: int) -> tuple[float, float, float, float, float, float, float]:
    """How many numbers, how many different ones, the largest, the sum of logs, the share of decimals, how many in a
    sentence, and how many with a slash before them."""
    found = _NUMBER.findall(b" ".join(raw.translate(_NUMBER_BYTES).split()).decode())
    if not found:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    numbers = " ".join(found)
    logs = list(map(log1p, map(float, map(_LEADING_DIGITS, numbers.replace(",", "").split()))))
    return (
        log1p(len(found)),
        sqrt(len(set(found))),
        max(logs),
        log1p(sum(logs)),
        numbers.count(".") / len(found),
        len(found) / sentences,
        log1p(len(_SLASHED.findall(raw))) if b"/" in raw else 0.0,
    )
