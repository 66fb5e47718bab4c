"""One head of the difficulty estimator: a logistic model, and trees that learn what it leaves over.

Every setting is chosen by the log-loss of out-of-fold predictions within the training examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from policies.bounds import kish
from policies.learn import calibrate, folds, linear, trees
from policies.learn.rows import Floats, Ints, Rows

PENALTIES = (1000.0, 300.0, 100.0, 30.0)
SPARSE_SCALE = 16.0
"""Prior deviation of an identity's weight, and of a text's words together, relative to a weight of the structure."""

SMALLEST_SHARE = 0.01  # of a setting in the average

GROWTH = trees.Growth(rounds=80, rate=0.03, leaves=8, depth=3, leaf_rows=30, ridge=20.0)
ROUNDS = (0, 20, 40, 80)


@dataclass(frozen=True, slots=True)
class Data:
    """`choices`: the same examples with other columns each; `weight`, `fold` (n,); `groups`: their conversations."""

    choices: dict[str, Rows]
    weight: Floats
    fold: Ints
    groups: Sequence[str]


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head. `held_out` (n,) are its out-of-fold logits. `forest` is None where trees do not pay."""

    target: Floats
    linear: linear.Linear
    forest: trees.Forest | None
    held_out: Floats
    tried: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Setting:
    """One set of columns with one penalty (its place in `PENALTIES`), held out."""

    columns: str
    place: int
    logits: Floats
    log_loss: float

    @property
    def name(self) -> str:
        return f"{self.columns} {PENALTIES[self.place]:g}"


def fit(data: Data, target: Floats, *, grow: bool, seed: int) -> Head:
    """The head for one target in [0, 1], shape (n,)."""
    settings = [each for name, rows in data.choices.items() for each in _held_out_path(name, rows, target, data)]
    shares = _shares(settings, kish(data.weight))
    best = min(settings, key=lambda setting: setting.log_loss)
    held_out = np.sum([share * setting.logits for setting, share in shares], axis=0)
    tried: dict[str, Any] = {
        "linear": {setting.name: setting.log_loss for setting in settings},
        "chosen": best.name,
        "shares": {setting.name: share for setting, share in shares},
    }
    fitted = _average(data, target, shares)
    if not grow:
        return Head(target, fitted, None, held_out, tried)
    rows = data.choices[best.columns]
    starts = _held_out_twice(rows, target, data, PENALTIES[best.place])
    forest, held_out, rounds = _residual(rows.dense, target, data, held_out, starts, seed)
    tried |= {"rounds": rounds, "trees": 0 if forest is None else len(forest.roots)}
    return Head(target, fitted, forest, held_out, tried)


def _shares(settings: Sequence[_Setting], count: float) -> list[tuple[_Setting, float]]:
    """How much each setting counts: in proportion to the likelihood of the held-out examples under it.

    Pseudo-BMA (Yao et al. 2018, Bayesian Analysis 13(3), section 3.4): with many examples the best setting alone; with
    few, among which the log-loss hardly tells, the average of all that are about as good.
    """
    losses = np.array([setting.log_loss for setting in settings])
    share = np.exp(-count * (losses - losses.min()))
    share[share < SMALLEST_SHARE * share.sum()] = 0.0
    return [(setting, float(part)) for setting, part in zip(settings, share / share.sum(), strict=True) if part > 0]


def _average(data: Data, target: Floats, shares: Sequence[tuple[_Setting, float]]) -> linear.Linear:
    """The settings fitted to all examples, averaged: the logits are linear, so that one model says the same."""
    parts: list[tuple[float, linear.Linear]] = []
    for name, rows in data.choices.items():
        mine = {setting.place: share for setting, share in shares if setting.columns == name}
        path = linear.Path(rows, target, data.weight, SPARSE_SCALE)
        for place in range(max(mine, default=-1) + 1):
            fitted = path.next(PENALTIES[place])
            if place in mine:
                parts.append((mine[place], fitted))
    return linear.Linear(
        bias=sum(share * each.bias for share, each in parts),
        dense=np.sum([share * each.dense for share, each in parts], axis=0),
        table=np.sum([share * each.table for share, each in parts if each.table is not None], axis=0),
    )


def _held_out_path(name: str, rows: Rows, target: Floats, data: Data) -> list[_Setting]:
    """The settings with falling penalties, up to where the log-loss has risen."""
    paths = [
        (left_out, linear.Path(rows.take(kept), target[kept], data.weight[kept], SPARSE_SCALE), rows.take(left_out))
        for kept, left_out in folds.splits(data.fold)
    ]
    settings: list[_Setting] = []
    for place, penalty in enumerate(PENALTIES):
        logits = np.empty(len(target))
        for left_out, path, held_out in paths:
            logits[left_out] = path.next(penalty).logits(held_out)
        loss = calibrate.log_loss(linear.sigmoid(logits), target, data.weight)
        settings.append(_Setting(name, place, logits, loss))
        if loss > min(setting.log_loss for setting in settings):
            break
    return settings


def _held_out_twice(rows: Rows, target: Floats, data: Data, penalty: float) -> Floats:
    """Row k: logits of the examples outside fold k by models that saw neither fold k nor the example's own fold."""
    fold, count = data.fold, int(data.fold.max()) + 1
    logits = np.full((count, len(target)), np.nan)
    for one, other in combinations(range(count), 2):
        kept = np.flatnonzero((fold != one) & (fold != other))
        fitted = linear.fit(rows.take(kept), target[kept], data.weight[kept], penalty, SPARSE_SCALE)
        for unseen, held_out in ((one, other), (other, one)):
            places = np.flatnonzero(fold == held_out)
            logits[unseen, places] = fitted.logits(rows.take(places))
    return logits


def _residual(
    dense: Floats, target: Floats, data: Data, start: Floats, starts: Floats, seed: int
) -> tuple[trees.Forest | None, Floats, dict[str, float]]:
    """Trees that begin from the out-of-fold logits of the logistic model; the logits of both; each size's log-loss.

    `starts` are `_held_out_twice`, so that what a fold's labels taught never reaches the trees that are judged on it.
    They pay when they lower the log-loss by more than the standard error of that difference, over groups.
    """
    out = np.tile(start, (len(ROUNDS), 1))
    for index, (kept, left_out) in enumerate(folds.splits(data.fold)):
        begin = starts[index, kept]
        grown = trees.grow(dense[kept], target[kept], data.weight[kept], GROWTH, seed=seed, start=begin)
        for place, rounds in enumerate(ROUNDS):
            out[place, left_out] += grown.first(rounds).logits(dense[left_out])
    losses = [calibrate.pointwise_log_loss(linear.sigmoid(each), target) for each in out]
    means = [float(np.average(each, weights=data.weight)) for each in losses]
    best = int(np.argmin(means))
    table = {str(rounds): mean for rounds, mean in zip(ROUNDS, means, strict=True)}
    if means[0] - means[best] <= calibrate.standard_error(losses[0] - losses[best], data.weight, data.groups):
        return None, start, table
    grown = trees.grow(dense, target, data.weight, GROWTH, seed=seed, start=start)
    return grown.first(ROUNDS[best]), out[best], table
