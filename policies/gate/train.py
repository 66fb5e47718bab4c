"""Trains the learned gate on judged answers; every setting is chosen inside the examples given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.gate import features, heads, scaling
from policies.gate.answer import StudentAnswer
from policies.gate.model import PERCENT, After, GateModel, distance, looked_at
from policies.gate.report import report
from policies.learn import calibrate
from policies.learn.example import Example
from policies.learn.labels import FEW, Labels, TooFewLabels
from policies.learn.loss import raw_loss
from policies.learn.rows import Floats, Rows
from policies.learn.trainers import Progress, silent


def train(
    examples: Sequence[Example], *, seed: int = 0, progress: Progress | None = None, after: After = "answer"
) -> GateModel:
    """A `GateModel` of the examples that have the student's answer; it is to decide `after` that much of it.

    TooFewLabels where they do not suffice; TrainingNotInstalled without the extra `learn`.
    """
    tell = progress or silent
    answered = _answered(examples)
    labels = Labels.of(answered)
    tell("features", 0.0)
    found = [_features(example, after) for example in answered]
    raw = features.rows(found).dense
    scale = scaling.fit(raw)
    scaled = scale(raw)
    names, targets = labels.heads
    data = heads.Data(raw, _choices(found, scaled), labels.weight, labels.fold(seed))
    fitted = []
    for place, name in enumerate(names):
        tell(f"head {name}", (place + 0.1) / (len(names) + 0.2))
        fitted.append(heads.fit(data, targets[:, place], seed))
    tell("calibration", 0.95)
    unsure = raw_loss(np.stack([head.held_out for head in fitted], axis=1))
    calibration = calibrate.choose(unsure, labels.harm, labels.weight, labels.groups, seed=seed)
    loss = np.clip(calibration.held_out, 0.0, 1.0)
    apart = distance(scaled)
    model = _assemble(names, after, scale, fitted, calibration.calibrator, np.quantile(apart, PERCENT))
    tell("done", 1.0)
    return replace(
        model,
        report=report(labels, model, fitted, calibration),
        calibration_set=labels.calibration_set(loss, np.interp(apart, model.distances, PERCENT), seed),
    )


def _answered(examples: Sequence[Example]) -> list[Example]:
    answered = [example for example in examples if example.answer is not None]
    if examples and not answered:
        raise TooFewLabels("training a gate needs the student's answers, and none of the examples has one")
    return answered


def _features(example: Example, after: After) -> features.Features:
    return features.extract(example.query, looked_at(example.answer or StudentAnswer(""), after))


def _choices(found: Sequence[features.Features], scaled: Floats) -> dict[str, Rows]:
    """The sets of columns among which cross-validation chooses."""
    choices = {"structure": Rows(scaled, features.rows(found, words=False).sparse)}
    if len(found) >= FEW:
        choices["words"] = Rows(scaled, features.rows(found).sparse)
    return choices


def _assemble(
    names: tuple[str, ...],
    after: After,
    scale: scaling.Scaling,
    fitted: Sequence[heads.Head],
    calibrator: calibrate.Calibrator,
    distances: Floats,
) -> GateModel:
    return GateModel(
        heads=names,
        after=after,
        scaling=scale,
        bias=np.array([head.linear.bias for head in fitted]),
        dense=np.stack([head.linear.dense for head in fitted], axis=1),
        table=_table(fitted),
        forests=tuple(head.forest for head in fitted),
        shares=np.array([head.share for head in fitted]),
        calibrator=calibrator,
        distances=distances,
    )


def _table(fitted: Sequence[heads.Head]) -> NDArray[np.float32]:
    """The sparse columns' weights, shape (WIDTH, heads)."""
    tables: list[Any] = [head.linear.table for head in fitted]
    return np.stack(tables, axis=1).astype(np.float32)
