"""How much each of several fitted models counts in the average of their logits."""

from __future__ import annotations

import numpy as np

from policies.bounds import kish
from policies.learn.extra import scipy_optimize
from policies.learn.linear import sigmoid
from policies.learn.rows import Floats

PULL = 3.0
"""Towards equal shares, as if so many requests more had spoken for each model."""

SMALLEST_SHARE = 0.01  # by likelihood: what has less is left out


def by_likelihood(log_losses: Floats, weight: Floats) -> Floats:
    """Shares, (models,), in proportion to the likelihood of n held-out examples; `log_losses` are the means, (models,).

    Pseudo-BMA (Yao et al. 2018, Bayesian Analysis 13(3), section 3.4): with many examples the best model alone; with
    few, among which the log-loss hardly tells, the average of all that are about as good. For models that are alike.
    """
    share = np.exp(-kish(weight) * (log_losses - log_losses.min()))
    share[share < SMALLEST_SHARE * share.sum()] = 0.0
    return np.asarray(share / share.sum())


def stacked(logits: Floats, target: Floats, weight: Floats) -> Floats:
    """The shares, (models,), whose average of held-out `logits`, (models, n), has the least log-loss.

    Stacking (Wolpert 1992; Yao et al. 2018, section 3.1) of logits, with a Dirichlet prior that favours equal shares:
    models of unlike kinds together beat the best of them, which `by_likelihood` cannot find. Targets in [0, 1].
    """
    count = len(logits)
    scaled = weight * (kish(weight) / weight.sum())

    def objective(at: Floats) -> tuple[float, Floats]:
        logs = _log_softmax(at)
        share = np.exp(logs)
        mixed = share @ logits
        losses = np.logaddexp(0.0, mixed) - target * mixed
        slope = share * (logits @ (scaled * (sigmoid(mixed) - target)))
        gradient = slope - share * slope.sum() - PULL * (1.0 - count * share)
        return float(scaled @ losses - PULL * logs.sum()), gradient

    found = scipy_optimize().minimize(objective, np.zeros(count), jac=True, method="L-BFGS-B").x
    return np.asarray(np.exp(_log_softmax(found)))


def _log_softmax(at: Floats) -> Floats:
    below = at - at.max()
    return np.asarray(below - np.log(np.exp(below).sum()))
