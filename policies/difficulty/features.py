"""A request as numbers: dense structure, hashed words, and who asks. The same in training and live.

Beyond `text.LONGEST` characters the text is sampled. What it does not see: meaning beyond words and their pairs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log1p, sqrt
from zlib import crc32

import numpy as np

from policies.learn import text as texts
from policies.learn.rows import Floats, Ints, Rows, Sparse
from policies.query import Query

BITS = 17  # 2**17 columns of words
IDENTITY_BITS = 13
WIDTH = (1 << BITS) + (1 << IDENTITY_BITS)
_NEEDS = ("tools", "json_schema", "images", "logprobs", "n")
_CLASSES = (
    ("digits", "0123456789"),
    ("capitals", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ("lines", "\n"),
    ("blanks", " \t"),
    ("operators", "+*/=<>^%"),
    ("brackets", "()[]{}"),
    ("code_signs", "_;{}#|&\\`"),
    ("dollars", "$"),
    ("question_marks", "?"),
    ("commas", ","),
    ("stops", ".!"),
    ("quotes", "\"'"),
    ("hyphens", "-"),
    ("colons", ":"),
)
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
_CHOICE = re.compile(r"(?m)^\(?([A-Ja-j])[.):] ?(.*)$")
_NUMBER = re.compile(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
_SLASHED = re.compile(r"[0-9]/[0-9]")
_DIGIT = re.compile(r"[0-9]")
_LARGEST_DIGITS = 15


_COUNTED = (*(name for name, _ in _CLASSES), "other_bytes")


def _class_table() -> Floats:
    """Which byte, of 256, counts for which of `_COUNTED`."""
    table = np.zeros((256, len(_COUNTED)))
    for place, (_, members) in enumerate(_CLASSES):
        table[[ord(member) for member in members], place] = 1.0
    table[128:, -1] = 1.0
    return table


_TABLE = _class_table()
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
    values = np.concatenate(
        (*(np.full(len(part), len(part) ** -0.5 if len(part) else 0.0) for part in hashed), np.ones(len(who)))
    )
    return Features(_structure(query, last, of), columns, values, len(columns) - len(who))


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
    named = (("tenant", query.tenant), ("key", query.key), ("route", query.route), ("system", system))
    return np.array(
        [
            (1 << BITS) + (crc32(f"{field}\0{value}".encode("utf-8", "replace")) >> (32 - IDENTITY_BITS))
            for field, value in named
            if value
        ],
        dtype=np.int64,
    )


def _structure(query: Query, last: str, of: list[bytes]) -> Floats:
    raw = last.encode("utf-8", "replace")
    counts = _counts(raw)
    found = dict(zip(_COUNTED, counts.tolist(), strict=True))
    words, distinct = len(of), set(of)
    sentences = found["stops"] + found["question_marks"] + 1
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
        *(float(need in query.needs) for need in _NEEDS),
        *np.sqrt(counts / max(len(raw), 1)).tolist(),
        len(raw) / max(words, 1),
        len(distinct) / max(words, 1),
        log1p(words / sentences),
        log1p(found["lines"]),
        log1p(found["question_marks"]),
        *_choices(last),
        *_numbers(last, sentences),
        log1p(closing),
        closing / max(len(last), 1),
        float(last.rstrip().endswith("?")),
        *(sqrt(len(lexicon & distinct)) for lexicon in _LEXICONS.values()),
    ]
    return np.array(dense)


def _counts(raw: bytes) -> Floats:
    """How many of the bytes belong to each of `_COUNTED`."""
    return np.asarray(np.bincount(np.frombuffer(raw, dtype=np.uint8), minlength=256) @ _TABLE)


def _last_sentence(last: str) -> int:
    """Characters of the last sentence or line."""
    end = len(last.rstrip()) - 1
    return max(0, end - max(last.rfind(mark, 0, end) for mark in (". ", "? ", "! ", "\n")))


def _choices(last: str) -> tuple[float, float, float, float]:
    """How many lines begin like a choice; their length, how it varies, and the share with a digit."""
    found = [choice for _, choice in _CHOICE.findall(last)] if "\n" in last else []
    if not found:
        return 0.0, 0.0, 0.0, 0.0
    lengths = [len(choice) for choice in found]
    mean = sum(lengths) / len(lengths)
    spread = (max(lengths) - min(lengths)) / (mean + 1)
    digits = sum(_DIGIT.search(choice) is not None for choice in found) / len(found)
    return float(len(found)), log1p(mean), spread, digits


def _numbers(last: str, sentences: float) -> tuple[float, float, float, float, float, float, float]:
    """How many numbers, how many different ones, the largest, the sum of logs, the share of decimals, how many in a
    sentence, and how many with a slash before them."""
    found = _NUMBER.findall(last)
    if not found:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    log_of = {number: log1p(float(number.replace(",", "")[:_LARGEST_DIGITS])) for number in set(found)}
    logs = [log_of[number] for number in found]
    return (
        log1p(len(found)),
        sqrt(len(log_of)),
        max(logs),
        log1p(sum(logs)),
        sum("." in number for number in found) / len(found),
        len(found) / sentences,
        log1p(len(_SLASHED.findall(last))) if "/" in last else 0.0,
    )
