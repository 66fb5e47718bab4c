"""The trained difficulty estimator: request -> expected harm of serving the student."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from policies.difficulty import features
from policies.gate.answer import StudentAnswer
from policies.learn.artifact import CalibrationSet, Content
from policies.learn.calibrate import Calibrator
from policies.learn.linear import sigmoid_of
from policies.learn.loss import expected_of
from policies.learn.rows import Floats, Ints
from policies.learn.steps import Steps
from policies.learn.trained import Score
from policies.query import Query

OUTCOMES = ("teacher_only", "student_only")
"""Heads for what one answer scores above the other."""

CALLERS = 128
"""Whose weights are kept at hand."""

QUANTILES = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class DifficultyModel:
    """k heads over the same features; d is the length of the structure and, after it, of an encoder's vector.

    logits (k,) = `bias` + structure @ (`dense` + the caller's `slopes`) + words and identity @ `table` + `steps`.
    Of scores of both: P(teacher good), P(student good), and the two `OUTCOMES`, of which the ranking is the mean of
    two estimates of teacher - student. Of audited pairs: P(harm) alone. `calibrator` turns the raw loss into the
    expected harm. `low` and `high` (d,) bound the structure to what training saw. `levels` are the identity columns
    that have slopes of their own over the structure. `centre` is the mean of the training vectors of `encoder`, empty
    and '' without one. `rarity` (columns of words,) is each word's surprise, `rarities` the
    `QUANTILES` of a text's mean surprise over the training data.
    """

    heads: tuple[str, ...]
    bias: Floats
    dense: Floats
    table: NDArray[np.float32]
    low: Floats
    high: Floats
    levels: Ints
    slopes: Floats
    steps: Steps
    calibrator: Calibrator
    rarity: NDArray[np.float32]
    rarities: Floats
    encoder: str = ""
    centre: Floats = field(default_factory=lambda: np.zeros(0))
    report: Mapping[str, Any] = field(default_factory=dict)
    calibration_set: CalibrationSet | None = None
    kind: str = "difficulty"
    after: Literal["request", "sentence", "answer"] = "request"
    version: str = field(init=False, default="")
    _weights_of: Callable[[tuple[int, ...]], Floats] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", self.content().version)
        weights_of = partial(_weights, self.dense, self.levels.tolist(), self.slopes)
        object.__setattr__(self, "_weights_of", lru_cache(CALLERS)(weights_of))

    def score(self, query: Query, answer: StudentAnswer | None = None) -> Score:
        """The expected loss of one request and how unlike the training data it is; `answer` is not looked at.

        A model with an encoder uses the query's vector of that encoder, where it has one.
        """
        found = features.extract(query)
        return Score(expected_of(self._chances(query, found), self.calibrator), self._novelty(found))

    def losses(self, queries: Sequence[Query]) -> Floats:
        """The expected loss of each request, shape (n,)."""
        return np.array([expected_of(chances, self.calibrator) for chances in self.probabilities(queries).tolist()])

    def rank(self, queries: Sequence[Query]) -> Floats:
        """What the teacher is worth more than the student, shape (n,); for ordering only."""
        chances = self.probabilities(queries)
        if len(self.heads) == 1:
            return chances[:, 0]
        teacher, student, teacher_only, student_only = chances.T
        return np.asarray(0.5 * (teacher - student + teacher_only - student_only))

    def novelty(self, queries: Sequence[Query]) -> Floats:
        """How unlike the training data each request is, in [0, 1], shape (n,)."""
        return np.array([self._novelty(features.extract(query)) for query in queries])

    def probabilities(self, queries: Sequence[Query]) -> Floats:
        """Each head's probability, shape (n, k)."""
        chances = [self._chances(query, features.extract(query)) for query in queries]
        return np.array(chances).reshape(len(queries), len(self.heads))

    def _chances(self, query: Query, found: features.Features) -> list[float]:
        dense = np.concatenate((found.dense, self._vector(query))) if len(self.centre) else found.dense
        return [sigmoid_of(logit) for logit in self._logits(found, dense).tolist()]

    def _vector(self, query: Query) -> Floats:
        vector = query.vector
        if vector is None or vector.encoder != self.encoder or len(vector.values) != len(self.centre):
            return self.centre
        return np.array(vector.values)

    def _logits(self, found: features.Features, dense: Floats) -> Floats:
        bounded = np.minimum(np.maximum(dense, self.low), self.high)
        weights = self._weights_of(tuple(found.columns[found.words :].tolist()))
        sparse = found.values.dot(self.table.take(found.columns, axis=0))
        return np.asarray(self.bias + bounded.dot(weights) + sparse + self.steps.of(dense))

    def _novelty(self, found: features.Features) -> float:
        of_each = self.rarity.take(found.columns[: found.words])
        surprise = float(of_each.sum()) / found.words if found.words else float(self.rarities[0])
        return float(np.interp(surprise, self.rarities, QUANTILES))

    def content(self) -> Content:
        """What its file holds."""
        tensors: dict[str, NDArray[Any]] = {
            "bias": self.bias,
            "dense": self.dense,
            "table": self.table,
            "low": self.low,
            "high": self.high,
            "levels": self.levels,
            "slopes": self.slopes,
            "calibrator": self.calibrator.parameters,
            "rarity": self.rarity,
            "rarities": self.rarities,
            "centre": self.centre,
            **self.steps.tensors("steps."),
        }
        if self.calibration_set is not None:
            tensors.update(self.calibration_set.tensors())
        settings = {
            "features": features.VERSION,
            "heads": list(self.heads),
            "calibrator": self.calibrator.kind,
            "encoder": self.encoder,
        }
        return Content(self.kind, tensors, settings, self.report)


def _weights(dense: Floats, levels: Sequence[int], slopes: Floats, who: tuple[int, ...]) -> Floats:
    """The weights, (d, k), of a request with the identity columns `who`: `dense` and the slopes of those with some."""
    weights = dense.copy()
    weights[: slopes.shape[1]] += slopes[[levels.index(column) for column in who if column in levels]].sum(axis=0)
    return weights


def from_content(content: Content) -> DifficultyModel:
    """The model in a file. ValueError when its features are not those of this version, or its parts do not fit."""
    settings, tensors = content.settings, content.tensors
    if settings["features"] != features.VERSION:
        raise ValueError(
            f"it has features of version {settings['features']}, "
            f"this distill-router has {features.VERSION}: train it again"
        )
    heads = tuple(settings["heads"])
    if heads not in (("harm",), ("teacher", "student", *OUTCOMES)):
        raise ValueError(f"a difficulty policy has no heads {heads}")
    if "steps.column" not in tensors:
        raise ValueError("it is of an earlier distill-router, without steps: train it again")
    d, k, levels = len(features.STRUCTURE) + tensors["centre"].size, len(heads), tensors["levels"].size
    content.check(
        bias=(k,),
        dense=(d, k),
        table=(features.WIDTH, k),
        low=(d,),
        high=(d,),
        levels=(levels,),
        slopes=(levels, len(features.STRUCTURE), k),
        rarity=(1 << features.BITS,),
        rarities=QUANTILES.shape,
        centre=(d - len(features.STRUCTURE),),
    )
    return DifficultyModel(
        heads=heads,
        bias=tensors["bias"],
        dense=tensors["dense"],
        table=tensors["table"],
        low=tensors["low"],
        high=tensors["high"],
        levels=tensors["levels"],
        slopes=tensors["slopes"],
        steps=Steps.read(tensors, "steps.", columns=d, sums=k),
        calibrator=Calibrator(settings["calibrator"], tensors["calibrator"]),
        rarity=tensors["rarity"],
        rarities=tensors["rarities"],
        encoder=settings["encoder"],
        centre=tensors["centre"],
        report=content.report,
        calibration_set=CalibrationSet.of(tensors),
    )
