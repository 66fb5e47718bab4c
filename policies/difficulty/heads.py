"""One head of the difficulty estimator: a logistic model, and trees that learn what it leaves over.

Every setting is chosen by the log-loss of out-of-fold predictions within the training examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from policies.learn import calibrate, folds, linear, trees
from policies.learn.rows import Floats, Ints, Rows

PENALTIES = (1000.0, 300.0, 100.0, 30.0)
SPARSE_SCALE = 16.0
"""Prior deviation of an identity's weight, and of a text's words together, relative to a weight of the structure."""

GROWTH = trees.Growth(rounds=80, rate=0.03, leaves=8, depth=3, leaf_rows=30, ridge=20.0)
ROUNDS = (0, 20, 40, 80)


@dataclass(frozen=True, slots=True)
class Data:
    """`choices`: the same examples with other columns each; `fold` (n,); `weight` (n,)."""

    choices: dict[str, Rows]
    weight: Floats
    fold: Ints


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head; `held_out` (n,) are its out-of-fold logits. `forest` is None where trees gain nothing."""

    columns: str
    linear: linear.Linear
    forest: trees.Forest | None
    held_out: Floats
    tried: dict[str, Any]


def fit(data: Data, target: Floats, *, grow: bool, seed: int) -> Head:
    """The head for one target in [0, 1], shape (n,)."""
    paths = {name: _held_out_path(rows, target, data) for name, rows in data.choices.items()}
    name, place = min(
        ((name, place) for name, (_, losses) in paths.items() for place in range(len(losses))),
        key=lambda choice: paths[choice[0]][1][choice[1]],
    )
    rows = data.choices[name]
    logits = paths[name][0][place]
    fitted = linear.path(rows, target, data.weight, PENALTIES[: place + 1], SPARSE_SCALE)[-1]
    tried: dict[str, Any] = {
        "linear": {
            f"{each} {penalty:g}": loss for each, (_, losses) in paths.items() for penalty, loss in _named(losses)
        },
        "chosen": f"{name} {PENALTIES[place]:g}",
    }
    if not grow:
        return Head(name, fitted, None, logits, tried)
    starts = _held_out_twice(rows, target, data, PENALTIES[place])
    forest, logits, rounds = _residual(rows.dense, target, data, logits, starts, seed)
    tried |= {"rounds": rounds, "trees": 0 if forest is None else len(forest.roots)}
    return Head(name, fitted, forest, logits, tried)


def _named(losses: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(PENALTIES, losses, strict=False))


def _held_out_path(rows: Rows, target: Floats, data: Data) -> tuple[list[Floats], list[float]]:
    """Out-of-fold logits for falling penalties and their log-loss, up to where it has risen clearly."""
    paths = [
        (left_out, linear.Path(rows.take(kept), target[kept], data.weight[kept], SPARSE_SCALE), rows.take(left_out))
        for kept, left_out in folds.splits(data.fold)
    ]
    logits: list[Floats] = []
    losses: list[float] = []
    for penalty in PENALTIES:
        out = np.empty(len(target))
        for left_out, path, held_out in paths:
            out[left_out] = path.next(penalty).logits(held_out)
        logits.append(out)
        losses.append(calibrate.log_loss(linear.sigmoid(out), target, data.weight))
        if losses[-1] > min(losses):
            break
    return logits, losses


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
    """
    out = np.tile(start, (len(ROUNDS), 1))
    for index, (kept, left_out) in enumerate(folds.splits(data.fold)):
        begin = starts[index, kept]
        grown = trees.grow(dense[kept], target[kept], data.weight[kept], GROWTH, seed=seed, start=begin)
        for place, rounds in enumerate(ROUNDS):
            out[place, left_out] += grown.first(rounds).logits(dense[left_out])
    losses = [calibrate.log_loss(linear.sigmoid(each), target, data.weight) for each in out]
    best = int(np.argmin(losses))
    table = {str(rounds): loss for rounds, loss in zip(ROUNDS, losses, strict=True)}
    if not ROUNDS[best]:
        return None, start, table
    grown = trees.grow(dense, target, data.weight, GROWTH, seed=seed, start=start)
    return grown.first(ROUNDS[best]), out[best], table
