"""The training report of a difficulty estimator: what it learnt from, what was tried, and how good it is held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from policies.difficulty import features
from policies.difficulty.heads import Head
from policies.difficulty.model import DifficultyModel
from policies.learn import calibrate, text
from policies.learn.example import Example
from policies.learn.linear import sigmoid
from policies.learn.rows import Floats

TOP = 15
SEEN_WORDS = 5  # rows that a word must occur in to be named


def report(
    examples: Sequence[Example],
    model: DifficultyModel,
    fitted: Sequence[Head],
    calibrations: dict[str, float],
    loss: Floats,
) -> dict[str, Any]:
    """JSON values only. `loss` (n,) is the calibrated out-of-fold loss: the figures are of it."""
    harm = np.array([example.harm for example in examples], dtype=np.float64)
    weight = np.array([example.weight for example in examples], dtype=np.float64)
    return {
        "examples": len(examples),
        "groups": len({example.group or f"#{place}" for place, example in enumerate(examples)}),
        "effective_examples": calibrate.effective_count(weight),
        "harm_rate": float(np.average(harm, weights=weight)),
        "heads": {name: _head(head, weight) for name, head in zip(model.heads, fitted, strict=True)},
        "calibration": model.calibrator.kind,
        "calibrations": calibrations,
        "log_loss": calibrate.log_loss(loss, harm, weight),
        "log_loss_of_the_mean": calibrate.log_loss(np.full(len(harm), np.average(harm, weights=weight)), harm, weight),
        "brier": calibrate.brier(loss, harm, weight),
        "calibration_error": calibrate.expected_calibration_error(loss, harm, weight),
        "auc": calibrate.auc(loss, harm, weight),
        "reliability": calibrate.reliability(loss, harm, weight),
        "levels_with_slopes": len(model.levels),
        "words": _top_words(examples, model),
    }


def _head(head: Head, weight: Floats) -> dict[str, Any]:
    target = head.target
    chance = sigmoid(head.held_out)
    auc = calibrate.auc(chance, target, weight)
    return {
        "mean": float(np.average(target, weights=weight)),
        "log_loss": calibrate.log_loss(chance, target, weight),
        "auc": None if math.isnan(auc) else auc,
        **head.tried,
    }


def _top_words(examples: Sequence[Example], model: DifficultyModel) -> dict[str, list[str]]:
    """The words that say most for the teacher (`harder`) and for the student (`easier`), by the linear weights."""
    seen: dict[bytes, int] = {}
    for example in examples:
        for word in set(text.words(text.sample(example.query.last or example.query.whole))):
            seen[word] = seen.get(word, 0) + 1
    names = [word for word, count in seen.items() if count >= SEEN_WORDS]
    columns = np.array([text.columns([word], features.BITS)[0] for word in names], dtype=np.int64)
    if not names:
        return {"harder": [], "easier": []}
    weights = model.table[columns] @ (np.array([1.0, -1.0, 1.0, -1.0]) if len(model.heads) > 1 else np.ones(1))
    order = np.argsort(-weights, kind="stable")
    ranked = [names[place].decode("utf-8", "replace") for place in order]
    return {"harder": ranked[:TOP], "easier": ranked[::-1][:TOP]}
