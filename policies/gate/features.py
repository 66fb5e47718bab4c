"""A request and the student's answer as numbers: the request's own features, and the answer's arithmetic, words, form.

Beyond `text.LONGEST` characters a text is sampled; arithmetic is read at both ends of a long answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.difficulty import features as requests
from policies.gate import arithmetic, form, reckoning, wording
from policies.gate.answer import StudentAnswer
from policies.learn import text as texts
from policies.learn.rows import Floats, Ints, Rows, Sparse
from policies.query import Query

BITS = 14  # 2**14 columns of the answer's words, behind those of the request
WIDTH = requests.WIDTH + (1 << BITS)
VERSION = f"{requests.VERSION}.1"  # of the columns' meaning; a trained policy of another one is refused
_START, _END = 1_000, 2_000  # characters of a longer answer whose arithmetic is read

NAMES: tuple[str, ...] = (
    *(f"request.{name}" for name in requests.STRUCTURE),
    *(f"answer.{name}" for name in (*reckoning.NAMES, *wording.NAMES, *form.NAMES)),
)


@dataclass(frozen=True, slots=True)
class Features:
    """Of one answer: `dense` (len(NAMES),), NaN where there is nothing to say; sparse columns with their values."""

    dense: Floats
    columns: Ints
    values: Floats
    words: int
    """How many of the first columns are words of the request or of the answer; the rest says who asks."""


def extract(query: Query, answer: StudentAnswer) -> Features:
    """All features of one answered request."""
    request = requests.extract(query)
    asked = texts.sample(query.last or query.whole)
    asked_words = texts.words(asked)
    words = texts.words(texts.sample(answer.text))
    of_answer = [
        *_reckoning(asked, asked_words, answer.text),
        *wording.features(asked_words, words),
        *form.features(query, answer),
    ]
    hashed = texts.columns(words, BITS) + requests.WIDTH
    loads = np.full(len(hashed), len(hashed) ** -0.5 if len(hashed) else 0.0)
    mine = request.words
    return Features(
        np.concatenate((request.dense, of_answer)),
        np.concatenate((request.columns[:mine], hashed, request.columns[mine:])),
        np.concatenate((request.values[:mine], loads, request.values[mine:])),
        mine + len(hashed),
    )


def _reckoning(asked: str, asked_words: Sequence[bytes], answer: str) -> list[float]:
    if len(answer) > _START + _END:
        answer = f"{answer[:_START]}\n{answer[-_END:]}"
    readable = arithmetic.plain(answer)
    said = reckoning.numbers(readable)
    return reckoning.features(
        reckoning.numbers(asked),
        reckoning.spoken(asked_words),
        arithmetic.equations(readable),
        said,
        reckoning.final_of(answer, said),
    )


def rows(features: Sequence[Features], *, words: bool = True) -> Rows:
    """Of many, for the learners; the dense columns may hold NaN. Without `words` the sparse ones say only who asks."""
    dense = np.array([each.dense for each in features]).reshape(len(features), len(NAMES))
    kept = [slice(0 if words else each.words, None) for each in features]
    columns = [(each.columns[part], each.values[part]) for each, part in zip(features, kept, strict=True)]
    return Rows(dense, Sparse.of(columns, WIDTH))
