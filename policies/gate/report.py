"""The training report of a learned gate: what it learnt from, what was tried, and how good it is held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from policies.gate import features
from policies.gate.heads import Head
from policies.gate.model import GateModel
from policies.learn import calibrate
from policies.learn.example import Example
from policies.learn.rows import Floats

TELLING = 15


def report(
    examples: Sequence[Example],
    model: GateModel,
    fitted: Sequence[Head],
    calibrations: dict[str, float],
    loss: Floats,
) -> dict[str, Any]:
    """JSON values only. `loss` (n,) is the calibrated out-of-fold loss: the figures are of it."""
    harm = np.array([example.harm for example in examples], dtype=np.float64)
    weight = np.array([example.weight for example in examples], dtype=np.float64)
    mean = float(np.average(harm, weights=weight))
    return {
        "examples": len(examples),
        "groups": len({example.group or f"#{place}" for place, example in enumerate(examples)}),
        "effective_examples": calibrate.effective_count(weight),
        "harm_rate": mean,
        "decides_after": model.after,
        "heads": {name: _head(examples, head, name, weight) for name, head in zip(model.heads, fitted, strict=True)},
        "calibration": model.calibrator.kind,
        "calibrations": calibrations,
        "log_loss": calibrate.log_loss(loss, harm, weight),
        "log_loss_of_the_mean": calibrate.log_loss(np.full(len(harm), mean), harm, weight),
        "brier": calibrate.brier(loss, harm, weight),
        "calibration_error": calibrate.expected_calibration_error(loss, harm, weight),
        "auc": calibrate.auc(loss, harm, weight),
        "reliability": calibrate.reliability(loss, harm, weight),
        "telling": {name: _telling(model, place) for place, name in enumerate(model.heads)},
    }


def _head(examples: Sequence[Example], head: Head, name: str, weight: Floats) -> dict[str, Any]:
    target = np.array([getattr(example, name) for example in examples], dtype=np.float64)
    return {
        "mean": float(np.average(target, weights=weight)),
        "log_loss": calibrate.log_loss(head.held_out, target, weight),
        "auc": calibrate.auc(head.held_out, target, weight),
        **head.tried,
        "trees": len(head.forest.roots),
        "chosen_share_of_trees": head.share,
    }


def _telling(model: GateModel, head: int) -> dict[str, float]:
    """The columns with the largest weights in the linear part of a head, by a standard deviation of each."""
    names = [*features.NAMES, *(f"{features.NAMES[column]} missing" for column in model.scaling.gaps)]
    weights = model.dense[:, head]
    order = np.argsort(-np.abs(weights), kind="stable")[:TELLING]
    return {names[column]: round(float(weights[column]), 4) for column in order}
