"""One head of the difficulty estimator: models of unlike kinds whose logits are averaged.

Logistic models on several sets of columns, and boosted trees of one split on the dense ones. Every setting and share is
chosen by the log-loss of out-of-fold predictions within the training examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from policies.bounds import kish
from policies.learn import calibrate, folds, linear, stack, trees
from policies.learn.rows import Floats, Ints, Rows
from policies.learn.steps import Steps, from_stumps

PENALTIES = (1000.0, 300.0, 100.0, 30.0)
SPARSE_SCALE = 16.0
"""Prior deviation of an identity's weight, and of a text's words together, relative to a weight of the structure."""

ROUNDS = (50, 100, 200)
GROWTH = trees.Growth(rounds=ROUNDS[-1], rate=0.05, leaves=2, depth=1, leaf_rows=20, ridge=10.0)
STEPS = "steps"


@dataclass(frozen=True, slots=True)
class Data:
    """`choices`: the same examples with other columns each; `dense` (n, d): what steps may grow on, None: none do.

    `weight`, `fold`: (n,).
    """

    choices: dict[str, Rows]
    dense: Floats | None
    weight: Floats
    fold: Ints


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head: the sum of `linear` and `steps`. `held_out` (n,) are its out-of-fold logits."""

    target: Floats
    linear: linear.Linear
    steps: Steps
    held_out: Floats
    tried: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Models that differ in one setting: their log-losses, by setting, and shares; `held_out` (n,) is their average."""

    held_out: Floats
    log_losses: dict[float, float]
    shares: Floats


def fit(data: Data, target: Floats, *, seed: int) -> Head:
    """The head for one target in [0, 1], shape (n,)."""
    kinds = {name: _kind(_held_out_path(rows, target, data), target, data) for name, rows in data.choices.items()}
    if data.dense is not None:
        kinds[STEPS] = _kind(_held_out_steps(data.dense, target, data, seed), target, data)
    logits = np.array([kind.held_out for kind in kinds.values()])
    shares = stack.stacked(logits, target, data.weight)
    shares_of = {name: share * kind.shares for share, (name, kind) in zip(shares, kinds.items(), strict=True)}
    bias, steps = 0.0, Steps.none()
    if data.dense is not None:
        bias, steps = _grown(data.dense, target, data, seed, shares_of[STEPS])
    tried = {
        "log_losses": {
            name: {f"{key:g}": loss for key, loss in kind.log_losses.items()} for name, kind in kinds.items()
        },
        "shares": dict(zip(kinds, shares.tolist(), strict=True)),
    }
    return Head(target, _average(data, target, shares_of, bias), steps, shares @ logits, tried)


def _kind(held_out: dict[float, Floats], target: Floats, data: Data) -> _Kind:
    losses = {
        setting: calibrate.log_loss(linear.sigmoid(logits), target, data.weight) for setting, logits in held_out.items()
    }
    shares = stack.by_likelihood(np.array(list(losses.values())), data.weight)
    return _Kind(shares @ np.array(list(held_out.values())), losses, shares)


def _held_out_path(rows: Rows, target: Floats, data: Data) -> dict[float, Floats]:
    """Out-of-fold logits by penalty, falling up to where the log-loss has risen."""
    paths = [
        (left_out, linear.Path(rows.take(kept), target[kept], data.weight[kept], SPARSE_SCALE), rows.take(left_out))
        for kept, left_out in folds.splits(data.fold)
    ]
    found: dict[float, Floats] = {}
    least = np.inf
    for penalty in PENALTIES:
        logits = found[penalty] = np.empty(len(target))
        for left_out, path, held_out in paths:
            logits[left_out] = path.next(penalty).logits(held_out)
        loss = calibrate.log_loss(linear.sigmoid(logits), target, data.weight)
        if loss > least:
            break
        least = loss
    return found


def _average(data: Data, target: Floats, shares: dict[str, Floats], bias: float) -> linear.Linear:
    """The logistic models fitted to all examples, averaged into one, for their logits are linear; plus `bias`."""
    parts: list[tuple[float, linear.Linear]] = []
    for name, rows in data.choices.items():
        path = linear.Path(rows, target, data.weight, SPARSE_SCALE)
        last = int(np.flatnonzero(shares[name])[-1])
        parts += [(shares[name][place], path.next(penalty)) for place, penalty in enumerate(PENALTIES[: last + 1])]
    return linear.Linear(
        bias=bias + sum(share * each.bias for share, each in parts),
        dense=np.sum([share * each.dense for share, each in parts], axis=0),
        table=np.sum([share * each.table for share, each in parts if each.table is not None], axis=0),
    )


def _held_out_steps(dense: Floats, target: Floats, data: Data, seed: int) -> dict[float, Floats]:
    """Out-of-fold logits by the number of trees."""
    found: dict[float, Floats] = {rounds: np.empty(len(target)) for rounds in ROUNDS}
    for kept, left_out in folds.splits(data.fold):
        start, grown = _stumps(dense[kept], target[kept], data.weight[kept], seed)
        for rounds in ROUNDS:
            found[rounds][left_out] = start + grown.first(rounds).logits(dense[left_out])
    return found


def _grown(dense: Floats, target: Floats, data: Data, seed: int, shares: Floats) -> tuple[float, Steps]:
    """The average of `ROUNDS` trees, each size with its share: a constant and steps."""
    start, grown = _stumps(dense, target, data.weight, seed)
    counts = np.zeros(len(grown.roots))
    for rounds, share in zip(ROUNDS, shares.tolist(), strict=True):
        counts[:rounds] += share
    constant, steps = from_stumps(grown, counts)
    return constant + start * float(shares.sum()), steps


def _stumps(dense: Floats, target: Floats, weight: Floats, seed: int) -> tuple[float, trees.Forest]:
    """A logit to start from, of the mean with half an example of either outcome added, and trees on top of it."""
    ones = kish(weight) * float(np.average(target, weights=weight)) + 0.5
    start = log(ones / (kish(weight) + 1.0 - ones))
    return start, trees.grow(dense, target, weight, GROWTH, seed=seed, start=np.full(len(target), start))
