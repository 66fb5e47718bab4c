"""What the difficulty estimator is measured against: two rankings that know neither the task nor who asks.

Neither chooses a setting, grows a tree, or calibrates. Both have two logistic heads, P(teacher good) and P(student
good), and rank by their difference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array, hstack
from scipy.special import expit

from policies.difficulty import features
from policies.judge.rows import Row
from policies.judge.trainers import Rank
from policies.learn import linear
from policies.learn.example import Example
from policies.learn.extra import single_threaded
from policies.learn.rows import Floats, Rows, Sparse
from policies.learn.trainers import Progress
from policies.query import Query

WIDTH = 1 << 15  # columns of hashed words
PENALTY = 100.0
WORDS_SCALE = 8.0  # prior deviation of a text's words together, relative to one number of its structure
_WORD = re.compile(r"[^\W\d_]+|\d+")
_CHOICE = re.compile(r"(?m)^\(?[A-Ja-j][.):]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CODE = re.compile(r"[{}\[\]();=<>#\\`_]")


def hashed(examples: Sequence[Example], *, seed: int, progress: Progress | None) -> Rank:
    """The fixed reference: hashed word 1-2-grams and `_shape`.

    Features and fit are written here, none is the product's: it stays what it is whatever becomes of that.
    """
    shapes = _shapes([example.query for example in examples])
    mean, deviation = shapes.mean(axis=0), np.maximum(shapes.std(axis=0), 1e-9)

    def columns(queries: Sequence[Query]) -> csr_array:
        return hstack((csr_array((_shapes(queries) - mean) / deviation), WORDS_SCALE * _hashed(queries)), format="csr")

    learned = columns([example.query for example in examples])
    with single_threaded():
        teacher, student = (_logistic(learned, target) for target in _targets(examples).T)

    def rank(asked: Sequence[Row]) -> Floats:
        found = columns([row.query for row in asked])
        return np.asarray(expit(teacher(found)) - expit(student(found)))

    return rank


def structured(examples: Sequence[Example], *, seed: int, progress: Progress | None) -> Rank:
    """The same with the product's own structure of a request, its hashing and its logistic regression: stronger."""
    rows = _product_rows([example.query for example in examples])
    ones = np.ones(len(examples))
    with single_threaded():
        heads = [linear.fit(rows, target, ones, PENALTY, WORDS_SCALE) for target in _targets(examples).T]

    def rank(asked: Sequence[Row]) -> Floats:
        found = _product_rows([row.query for row in asked])
        teacher, student = (linear.sigmoid(head.logits(found)) for head in heads)
        return np.asarray(teacher - student)

    return rank


BASELINES = {"hashed": hashed, "structured": structured}


def _targets(examples: Sequence[Example]) -> Floats:
    return np.array([[example.teacher, example.student] for example in examples], dtype=np.float64)


def _shapes(queries: Sequence[Query]) -> Floats:
    return np.array([_shape(query.whole) for query in queries])


def _shape(text: str) -> list[float]:
    """Lengths, digits, numbers, question marks, choices, code signs."""
    numbers = _NUMBER.findall(text)
    return [
        math.log1p(len(text)),
        math.log1p(len(text.split())),
        math.log1p(text.count("\n")),
        sum(map(str.isdigit, text)) / max(len(text), 1),
        math.log1p(len(numbers)),
        math.log1p(max(map(len, numbers), default=0)),
        math.log1p(text.count("?")),
        float(len(_CHOICE.findall(text))),
        math.log1p(len(_CODE.findall(text))),
    ]


def _hashed(queries: Sequence[Query]) -> csr_array:
    """Which words and pairs of neighbouring words are there; each text's values have length 1."""
    of = []
    for query in queries:
        words = [word.encode() for word in _WORD.findall(query.whole.lower())]
        pairs = [b"%b %b" % pair for pair in pairwise(words)]
        of.append(sorted({crc32(each) % WIDTH for each in (*words, *pairs)}))
    values = np.concatenate([np.full(len(each), max(len(each), 1) ** -0.5) for each in of])
    starts = np.cumsum([0, *map(len, of)])
    return csr_array((values, np.concatenate(of).astype(np.int64), starts), shape=(len(of), WIDTH))


def _logistic(rows: csr_array, target: Floats) -> Callable[[csr_array], Floats]:
    """Minimises the cross-entropy + `PENALTY` / 2 |weights|^2, the bias free; gives the logits of other rows."""
    transposed = rows.T.tocsr()

    def objective(at: Floats) -> tuple[float, Floats]:
        logits = rows @ at[1:] + at[0]
        slope = expit(logits) - target
        loss = float(np.sum(np.logaddexp(0.0, logits) - target * logits) + PENALTY / 2 * (at[1:] @ at[1:]))
        return loss, np.concatenate(([slope.sum()], transposed @ slope + PENALTY * at[1:]))

    found = minimize(objective, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return lambda asked: np.asarray(asked @ found[1:] + found[0])


def _product_rows(queries: Sequence[Query]) -> Rows:
    """Structure and hashed words, without who asks."""
    found = [features.extract(query) for query in queries]
    sparse = [(each.columns[: each.words], each.values[: each.words]) for each in found]
    return Rows(np.array([each.dense for each in found]), Sparse.of(sparse, features.WIDTH))
