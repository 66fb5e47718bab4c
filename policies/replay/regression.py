"""Predictions of outcomes from a few features, each made without the outcomes of its own fold."""

from __future__ import annotations

import numpy as np

from policies.bounds import Floats
from policies.learn.rows import Ints

_FLAT = 1e-12


def cross_fitted(
    features: Floats, outcomes: Floats, weights: Floats, folds: Ints, others: Floats
) -> tuple[Floats, Floats]:
    """Weighted ridge regressions of `outcomes` (n, k) on `features` (n, d), one without each fold.

    Gives the predictions for the n (n, k), and for `others` (N, d) the mean of the folds' predictions, by the folds'
    weight (N, k). With a single fold nothing can be learned apart, and all predictions are 0.
    """
    own = np.zeros_like(outcomes)
    mixed = np.zeros((len(others), outcomes.shape[1]))
    total = float(weights.sum())
    names = np.unique(folds)
    if len(names) < 2 or total <= 0:
        return own, mixed
    centre, scale = others.mean(axis=0), others.std(axis=0)
    usable = scale > _FLAT * (1 + np.abs(centre))
    near, far = ((each[:, usable] - centre[usable]) / scale[usable] for each in (features, others))
    for name in names:
        held = folds == name
        level, slopes = _ridge(near[~held], outcomes[~held], weights[~held])
        own[held] = level + near[held] @ slopes
        mixed += float(weights[held].sum()) / total * (level + far @ slopes)
    return own, mixed


def _ridge(features: Floats, outcomes: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Intercept (k,), not shrunken, and slopes (d, k). The penalty is as strong as one draw for each feature."""
    total = float(weights.sum())
    if total <= 0:
        return np.zeros(outcomes.shape[1]), np.zeros((features.shape[1], outcomes.shape[1]))
    shares = weights / total
    middle, level = shares @ features, shares @ outcomes
    centred = features - middle
    draws = 1 / float(shares @ shares)
    penalty = features.shape[1] / draws
    gram = centred.T @ (shares[:, None] * centred) + penalty * np.eye(features.shape[1])
    slopes = np.linalg.solve(gram, centred.T @ (shares[:, None] * (outcomes - level)))
    return level - middle @ slopes, slopes
