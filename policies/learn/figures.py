"""What every training report tells: what was learnt from, and how good it is held out. JSON values only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from policies.bounds import kish
from policies.learn import calibrate, folds
from policies.learn.labels import Labels
from policies.learn.rows import Floats


def of_labels(labels: Labels) -> dict[str, Any]:
    """Counts; `until` is the time of the latest example."""
    return {
        "examples": len(labels.harm),
        "groups": folds.count(labels.groups),
        "effective_examples": kish(labels.weight),
        "until": labels.until,
        "harm_rate": float(np.average(labels.harm, weights=labels.weight)),
    }


def of_head(target: Floats, chance: Floats, weight: Floats) -> dict[str, Any]:
    """Of out-of-fold probabilities, shape (n,). The AUC is None where the target has one value only."""
    auc = calibrate.auc(chance, target, weight)
    return {
        "mean": float(np.average(target, weights=weight)),
        "log_loss": calibrate.log_loss(chance, target, weight),
        "auc": None if math.isnan(auc) else auc,
    }


def of_loss(labels: Labels, chosen: calibrate.Chosen) -> dict[str, Any]:
    """Of the calibrated loss, held out of the fit and of the calibration."""
    loss, harm, weight = np.clip(chosen.held_out, 0.0, 1.0), labels.harm, labels.weight
    mean = np.full(len(harm), np.average(harm, weights=weight))
    return {
        "calibration": chosen.calibrator.kind,
        "calibrations": dict(chosen.log_losses),
        "log_loss": calibrate.log_loss(loss, harm, weight),
        "log_loss_of_the_mean": calibrate.log_loss(mean, harm, weight),
        "brier": calibrate.brier(loss, harm, weight),
        "calibration_error": calibrate.expected_calibration_error(loss, harm, weight),
        "auc": calibrate.auc(loss, harm, weight),
        "reliability": calibrate.reliability(loss, harm, weight),
    }
