"""The learned gate: request and student's answer -> expected harm of serving that answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from policies.base import GateNeeds
from policies.gate import features
from policies.gate.answer import StudentAnswer
from policies.gate.holdback import seen
from policies.gate.scaling import Scaling
from policies.learn.artifact import CalibrationSet, Content
from policies.learn.calibrate import Calibrator
from policies.learn.linear import sigmoid
from policies.learn.loss import expected
from policies.learn.rows import Floats, Rows
from policies.learn.trained import Score
from policies.learn.trees import Forest
from policies.query import Query

After = Literal["sentence", "answer"]

PERCENT = np.linspace(0.0, 1.0, 101)
_FIRST_SENTENCE = GateNeeds(tokens=64, sentence=True)


@dataclass(frozen=True, slots=True)
class GateModel:
    """Heads over the same features: logit = (1 - share) linear + share trees, for each of k heads.

    The linear part is `bias` (k,) + scaled dense columns @ `dense` + words and identity @ `table`, (WIDTH, k); trees
    see the raw dense columns. Two heads are P(teacher good) and P(student good), one is P(harm). `calibrator` turns the
    raw loss into the expected harm. `distances`: percentiles of the training data's. `after`: how much of an answer is
    looked at, whatever is shown of it.
    """

    heads: tuple[str, ...]
    after: After
    scaling: Scaling
    bias: Floats
    dense: Floats
    table: NDArray[np.float32]
    forests: tuple[Forest, ...]
    shares: Floats
    calibrator: Calibrator
    distances: Floats
    report: Mapping[str, Any] = field(default_factory=dict)
    calibration_set: CalibrationSet | None = None
    kind: str = "cascade"
    encoder: Literal[""] = ""
    version: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", self.content().version)

    def score(self, query: Query, answer: StudentAnswer | None = None) -> Score:
        """The expected loss of serving `answer`, and how unlike the training data it is. ValueError without one."""
        if answer is None:
            raise ValueError("a gate judges the student's answer: there is none")
        found = features.extract(query, looked_at(answer, self.after))
        scaled = self.scaling(found.dense[None, :])
        words = found.values @ self.table.take(found.columns, axis=0)
        trees = np.array([forest.logit(found.dense) for forest in self.forests])
        loss = self._losses(self._chances(scaled, words, trees))
        return Score(float(loss[0]), float(self._novelty(scaled)[0]))

    def losses(self, queries: Sequence[Query], answers: Sequence[StudentAnswer]) -> Floats:
        """The expected loss of each answer, shape (n,)."""
        return self._losses(self.probabilities(queries, answers))

    def rank(self, queries: Sequence[Query], answers: Sequence[StudentAnswer]) -> Floats:
        """What the teacher is worth more than each answer, shape (n,); for ordering only."""
        chances = self.probabilities(queries, answers)
        return chances[:, 0] - chances[:, 1] if len(self.heads) == 2 else self._losses(chances)

    def novelty(self, queries: Sequence[Query], answers: Sequence[StudentAnswer]) -> Floats:
        """How unlike the training data each answered request is, in [0, 1], shape (n,)."""
        return self._novelty(self.scaling(self._rows(queries, answers).dense))

    def probabilities(self, queries: Sequence[Query], answers: Sequence[StudentAnswer]) -> Floats:
        """Each head's probability, shape (n, k)."""
        rows = self._rows(queries, answers)
        assert rows.sparse is not None
        trees = np.stack([forest.logits(rows.dense) for forest in self.forests], axis=1)
        return self._chances(self.scaling(rows.dense), rows.sparse.dot(self.table), trees)

    def _rows(self, queries: Sequence[Query], answers: Sequence[StudentAnswer]) -> Rows:
        pairs = zip(queries, answers, strict=True)
        return features.rows([features.extract(query, looked_at(answer, self.after)) for query, answer in pairs])

    def _chances(self, scaled: Floats, words: Floats, trees: Floats) -> Floats:
        """From scaled columns (n, ·), and the logits (n, k) that the sparse columns add and that the trees give."""
        linear = self.bias + scaled @ self.dense + words
        return sigmoid((1 - self.shares) * linear + self.shares * trees)

    def _losses(self, chances: Floats) -> Floats:
        return expected(chances, self.calibrator)

    def _novelty(self, scaled: Floats) -> Floats:
        return np.interp(distance(scaled), self.distances, PERCENT)

    def content(self) -> Content:
        """What its file holds."""
        tensors: dict[str, NDArray[Any]] = {
            "bias": self.bias,
            "dense": self.dense,
            "table": self.table,
            "shares": self.shares,
            "calibrator": self.calibrator.parameters,
            "distances": self.distances,
            **self.scaling.tensors(),
        }
        for head, forest in zip(self.heads, self.forests, strict=True):
            tensors.update(forest.tensors(f"trees.{head}."))
        if self.calibration_set is not None:
            tensors.update(self.calibration_set.tensors())
        settings = {
            "features": features.VERSION,
            "heads": list(self.heads),
            "calibrator": self.calibrator.kind,
            "after": self.after,
        }
        return Content(self.kind, tensors, settings, self.report)


def looked_at(answer: StudentAnswer, after: After) -> StudentAnswer:
    """The part of an answer that a gate looks at when it decides; after a sentence without its log-probabilities."""
    return answer if after == "answer" else seen(_FIRST_SENTENCE, answer, ())


def distance(scaled: Floats) -> Floats:
    """The mean squared standard score over the columns that vary, (n, d) to (n,)."""
    return np.asarray(np.mean(np.square(scaled), axis=1))


def from_content(content: Content) -> GateModel:
    """The model in a file. ValueError when its features are not those of this version, or its parts do not fit."""
    if content.settings["features"] != features.VERSION:
        raise ValueError(
            f"it has features of version {content.settings['features']}, "
            f"this distill-router has {features.VERSION}: train it again"
        )
    tensors, heads, after = content.tensors, tuple(content.settings["heads"]), content.settings["after"]
    if heads not in (("harm",), ("teacher", "student")) or after not in ("sentence", "answer"):
        raise ValueError(f"a gate has no heads {heads} that are asked after '{after}'")
    given, k = len(features.NAMES), len(heads)
    d = given + tensors["scaling.gaps"].size
    content.check(
        bias=(k,),
        dense=(d, k),
        table=(features.WIDTH, k),
        shares=(k,),
        distances=PERCENT.shape,
        **{"scaling.middle": (given,), "scaling.gaps": (d - given,), "scaling.mean": (d,), "scaling.deviation": (d,)},
    )
    return GateModel(
        heads=heads,
        after=after,
        scaling=Scaling.of(tensors),
        bias=tensors["bias"],
        dense=tensors["dense"],
        table=tensors["table"],
        forests=tuple(Forest.of(tensors, f"trees.{head}.") for head in heads),
        shares=tensors["shares"],
        calibrator=Calibrator(content.settings["calibrator"], tensors["calibrator"]),
        distances=tensors["distances"],
        report=content.report,
        calibration_set=CalibrationSet.of(tensors),
    )
