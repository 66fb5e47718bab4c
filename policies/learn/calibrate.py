"""Makes a probability honest, and says how honest it is: calibration chosen by cross-validated log-loss, and measures.

What calibration does not know: that the traffic has changed since. It holds for traffic like that it was fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from policies import calibration as isotonic
from policies.learn import folds, linear
from policies.learn.rows import Floats, Ints, Rows

Kind = Literal["none", "platt", "beta", "isotonic"]
KINDS: tuple[Kind, ...] = ("none", "platt", "beta", "isotonic")
EDGE = 1e-6
BINS = 10


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A map from [0, 1] to [0, 1]; `parameters` by kind.

    platt: a + b logit(p) (Platt 1999). beta: a ln p - b ln(1 - p) + c (Kull et al. 2017). isotonic: the scores, then
    as many probabilities. none: as it is.
    """

    kind: Kind = "none"
    parameters: Floats = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        """ValueError for another kind, or parameters that are not its own."""
        size = self.parameters.size
        fits = {"none": size == 0, "platt": size == 2, "beta": size == 3, "isotonic": size > 0 and size % 2 == 0}
        if not fits.get(self.kind) or self.parameters.ndim != 1:
            raise ValueError(f"calibration '{self.kind}' with {size} parameters: there is none")

    def __call__(self, probability: Floats) -> Floats:
        """Shape (n,) to (n,)."""
        if self.kind == "none":
            return probability
        if self.kind == "isotonic":
            scores, values = np.split(self.parameters, 2)
            return np.asarray(np.interp(probability, scores, values))
        return linear.sigmoid(_columns(probability, self.kind) @ self.parameters[1:] + self.parameters[0])

    def one(self, probability: float) -> float:
        """The same for one probability, without the cost of arrays."""
        if self.kind == "none":
            return probability
        if self.kind == "isotonic":
            return float(self(np.array([probability]))[0])
        inside = min(max(probability, EDGE), 1 - EDGE)
        bias, *slopes = self.parameters.tolist()
        if self.kind == "platt":
            logit = bias + slopes[0] * (math.log(inside) - math.log1p(-inside))
        else:
            logit = bias + slopes[0] * math.log(inside) - slopes[1] * math.log1p(-inside)
        return linear.sigmoid_of(logit)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A fitted `calibrator`; the values that calibrators of its kind give to what they were not fitted on, shape (n,);
    and the cross-validated log-loss of each kind."""

    calibrator: Calibrator
    held_out: Floats
    log_losses: Mapping[Kind, float]


def _columns(probability: Floats, kind: Kind) -> Floats:
    inside = np.clip(probability, EDGE, 1 - EDGE)
    if kind == "platt":
        return np.asarray((np.log(inside) - np.log1p(-inside))[:, None])
    return np.stack((np.log(inside), -np.log1p(-inside)), axis=1)


def fit(probability: Floats, target: Floats, weight: Floats, kind: Kind) -> Calibrator:
    """Fits one kind on out-of-sample probabilities, shape (n,), and targets in [0, 1]."""
    if kind == "none":
        return Calibrator()
    if kind == "isotonic":
        curve = isotonic.fit((-probability).tolist(), target.tolist(), weight.tolist())
        rising = np.asarray(curve.scores)[::-1], np.asarray(curve.wrong)[::-1]
        return Calibrator("isotonic", np.concatenate((-rising[0], rising[1])))
    solution = linear.fit(Rows(_columns(probability, kind)), target, weight, penalty=1.0)
    if (solution.dense < 0).any():  # a fall where a rise is due: noise; the mean stands
        solution = linear.fit(Rows(np.zeros((len(target), solution.dense.size))), target, weight, penalty=1.0)
    return Calibrator(kind, np.concatenate(([solution.bias], solution.dense)))


def choose(
    probability: Floats,
    target: Floats,
    weight: Floats,
    groups: Sequence[str] | None = None,
    *,
    count: int = 5,
    seed: int = 0,
) -> Chosen:
    """The kind with the lowest cross-validated log-loss, fitted on everything; no group stands on both sides.

    The earlier in `KINDS` wins unless a later one is better by a standard error of the difference, over groups.
    """
    groups = [""] * len(target) if groups is None else groups
    fold = folds.assign(groups, (target > 0.5).tolist(), min(count, folds.count(groups)), seed)
    held_out = {kind: _held_out(probability, target, weight, fold, kind) for kind in KINDS}
    losses = {kind: pointwise_log_loss(values, target) for kind, values in held_out.items()}
    best: Kind = "none"
    for kind in KINDS[1:]:
        gain = losses[best] - losses[kind]
        if np.average(gain, weights=weight) > standard_error(gain, weight, groups):
            best = kind
    table = {kind: float(np.average(loss, weights=weight)) for kind, loss in losses.items()}
    return Chosen(fit(probability, target, weight, best), held_out[best], table)


def _held_out(probability: Floats, target: Floats, weight: Floats, fold: Ints, kind: Kind) -> Floats:
    values = np.empty_like(probability)
    for train, test in folds.splits(fold):
        values[test] = fit(probability[train], target[train], weight[train], kind)(probability[test])
    return values


def standard_error(values: Floats, weight: Floats, groups: Sequence[str] | None = None) -> float:
    """Of the weighted mean of values, shape (n,), independent or so between `groups`; the weights taken as given."""
    share = weight / weight.sum()
    spread = share * (values - share @ values)
    if groups is not None:
        spread = np.bincount(folds.numbered(groups), spread)
    return float(np.sqrt(spread @ spread))


def pointwise_log_loss(probability: Floats, target: Floats) -> Floats:
    """-[y ln p + (1 - y) ln(1 - p)] in nats, p kept `EDGE` away from 0 and 1; shape (n,)."""
    inside = np.clip(probability, EDGE, 1 - EDGE)
    return np.asarray(-(target * np.log(inside) + (1 - target) * np.log1p(-inside)))


def log_loss(probability: Floats, target: Floats, weight: Floats) -> float:
    """Weighted mean of `pointwise_log_loss`."""
    return float(np.average(pointwise_log_loss(probability, target), weights=weight))


def brier(probability: Floats, target: Floats, weight: Floats) -> float:
    """Weighted mean squared difference (Brier 1950)."""
    return float(np.average(np.square(probability - target), weights=weight))


def auc(score: Floats, target: Floats, weight: Floats) -> float:
    """P(score of a positive > score of a negative), ties half; soft targets count in part. NaN without both classes."""
    order = np.argsort(score, kind="stable")
    positive, negative = (weight * target)[order], (weight * (1 - target))[order]
    _, starts = np.unique(score[order], return_index=True)
    ups, downs = np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
    below = np.cumsum(downs) - downs
    total = ups.sum() * downs.sum()
    return float((ups @ (below + 0.5 * downs)) / total) if total > 0 else float("nan")


def reliability(probability: Floats, target: Floats, weight: Floats, bins: int = BINS) -> list[dict[str, Any]]:
    """Bins of about equal count, by rising probability: mean `predicted`, mean `observed`, `count`, its `weight`."""
    order = np.argsort(probability, kind="stable")
    rows = []
    for part in np.array_split(order, min(bins, len(order))):
        load = weight[part]
        rows.append(
            {
                "predicted": float(np.average(probability[part], weights=load)),
                "observed": float(np.average(target[part], weights=load)),
                "count": len(part),
                "weight": float(load.sum()),
            }
        )
    return rows


def expected_calibration_error(probability: Floats, target: Floats, weight: Floats, bins: int = BINS) -> float:
    """Weighted mean of |predicted - observed| over the bins of `reliability` (Naeini et al. 2015, equal counts)."""
    table = reliability(probability, target, weight, bins)
    total = sum(row["weight"] for row in table)
    return float(sum(row["weight"] * abs(row["predicted"] - row["observed"]) for row in table) / total)
