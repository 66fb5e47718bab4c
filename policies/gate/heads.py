"""One head of the learned gate: a logistic model on scaled columns, and trees on the raw ones, blended.

Every setting is chosen by the log-loss of out-of-fold predictions within the training examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.learn import calibrate, folds, linear, trees
from policies.learn.rows import Floats, Ints, Rows

PENALTIES = (300.0, 100.0, 30.0, 10.0)
SPARSE_SCALE = 8.0
"""Prior deviation of an identity's weight, and of a text's words together, relative to a weight of the structure."""

ROUNDS = (40, 80, 120, 160, 200)
GROWTH = trees.Growth(rounds=ROUNDS[-1], rate=0.06, leaves=6, leaf_rows=15, columns=0.3, rows=0.7)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Data:
    """Of n examples: `raw` dense columns for the trees, scaled ones with other sparse columns each in `choices`.

    `weight` and `fold` are (n,).
    """

    raw: Floats
    choices: Mapping[str, Rows]
    weight: Floats
    fold: Ints


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head: logit = (1 - `share`) linear + `share` trees. `held_out` (n,) are out-of-fold probabilities."""

    target: Floats
    linear: linear.Linear
    forest: trees.Forest
    share: float
    held_out: Floats
    tried: dict[str, Any]


def fit(data: Data, target: Floats, seed: int) -> Head:
    """The head for one target in [0, 1], shape (n,)."""
    fitted, of_linear, linear_tried = _linear(data, target)
    forest, of_trees, trees_tried = _forest(data, target, seed)
    blends = [linear.sigmoid((1 - share) * of_linear + share * of_trees) for share in SHARES]
    losses = [calibrate.log_loss(blend, target, data.weight) for blend in blends]
    best = int(np.argmin(losses))
    tried = {"linear": linear_tried, "rounds_of_trees": trees_tried, "share_of_trees": _named(SHARES, losses)}
    return Head(target, fitted, forest, SHARES[best], blends[best], tried)


def _linear(data: Data, target: Floats) -> tuple[linear.Linear, Floats, dict[str, float]]:
    """The best linear part, its out-of-fold logits, and the log-loss of each choice."""
    logits = {name: _held_out_path(rows, target, data) for name, rows in data.choices.items()}
    losses = {
        (name, place): calibrate.log_loss(linear.sigmoid(each), target, data.weight)
        for name, path in logits.items()
        for place, each in enumerate(path)
    }
    name, place = min(losses, key=losses.__getitem__)
    fitted = linear.path(data.choices[name], target, data.weight, PENALTIES[: place + 1], SPARSE_SCALE)[-1]
    tried = {f"{each} {PENALTIES[at]:g}": loss for (each, at), loss in losses.items()}
    return fitted, logits[name][place], tried


def _held_out_path(rows: Rows, target: Floats, data: Data) -> Floats:
    """Out-of-fold logits for each penalty, shape (penalties, n)."""
    out = np.empty((len(PENALTIES), len(target)))
    for kept, left_out in folds.splits(data.fold):
        path = linear.path(rows.take(kept), target[kept], data.weight[kept], PENALTIES, SPARSE_SCALE)
        held_out = rows.take(left_out)
        out[:, left_out] = [each.logits(held_out) for each in path]
    return out


def _forest(data: Data, target: Floats, seed: int) -> tuple[trees.Forest, Floats, dict[str, float]]:
    """The trees with the best number of rounds, their out-of-fold logits, and the log-loss of each number."""
    out = np.empty((len(ROUNDS), len(target)))
    for kept, left_out in folds.splits(data.fold):
        grown = trees.grow(data.raw[kept], target[kept], data.weight[kept], GROWTH, seed=seed)
        out[:, left_out] = [grown.first(rounds).logits(data.raw[left_out]) for rounds in ROUNDS]
    losses = [calibrate.log_loss(linear.sigmoid(each), target, data.weight) for each in out]
    best = int(np.argmin(losses))
    grown = trees.grow(data.raw, target, data.weight, GROWTH, seed=seed)
    return grown.first(ROUNDS[best]), out[best], _named(ROUNDS, losses)


def _named(settings: Sequence[float], losses: Sequence[float]) -> dict[str, float]:
    return {f"{setting:g}": loss for setting, loss in zip(settings, losses, strict=True)}
