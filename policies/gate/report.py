"""The training report of a learned gate: what it learnt from, what was tried, and how good it is held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from policies.gate import features
from policies.gate.heads import Head
from policies.gate.model import GateModel
from policies.learn import calibrate, figures
from policies.learn.labels import Labels
from policies.learn.rows import Floats

TELLING = 15


def report(labels: Labels, model: GateModel, fitted: Sequence[Head], calibration: calibrate.Chosen) -> dict[str, Any]:
    """JSON values only. The figures are of the out-of-fold loss."""
    return {
        **figures.of_labels(labels),
        "decides_after": model.after,
        "heads": {name: _head(head, labels.weight) for name, head in zip(model.heads, fitted, strict=True)},
        **figures.of_loss(labels, calibration),
        "telling": {name: _telling(model, place) for place, name in enumerate(model.heads)},
    }


def _head(head: Head, weight: Floats) -> dict[str, Any]:
    return {
        **figures.of_head(head.target, head.held_out, weight),
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
