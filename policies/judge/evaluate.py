"""Out-of-fold evaluation: every row is ranked by a policy that was trained without it.

Rows that ask the same stand in the same fold. Nothing of a held-out row but its request (and the student's answer,
where the policy looks at one) reaches the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.bounds import Floats
from policies.judge.rows import Row, TableError
from policies.judge.trainers import Fit
from policies.learn.folds import assign, splits
from policies.learn.trainers import Progress


@dataclass(frozen=True, slots=True)
class Plan:
    """`train_limit`: at most so many rows, drawn at random, of each fold's training part are learned from."""

    folds: int = 5
    seeds: int = 1
    train_limit: int | None = None


def out_of_fold(rows: Sequence[Row], fit: Fit, plan: Plan, progress: Progress | None = None) -> Floats:
    """How much each row is worth the teacher, shape (seeds, rows).

    Raises TableError for rows without scores and for fewer different prompts than folds, and whatever training raises.
    """
    examples = [row.example() for row in rows]
    groups = [example.group for example in examples]
    if len(set(groups)) < plan.folds:
        raise TableError(f"{plan.folds} folds need as many different prompts, and there are {len(set(groups))}")
    strata = [(row.dataset, *(round(score or 0.0) for score in (row.teacher, row.student))) for row in rows]
    worth = np.empty((plan.seeds, len(rows)))
    for seed in range(plan.seeds):
        for index, (learned, held_out) in enumerate(splits(assign(groups, strata, plan.folds, seed))):
            step = _Step(progress, seed * plan.folds + index, plan.folds * plan.seeds)
            chosen = _limited(learned, plan.train_limit, seed)
            rank = fit([examples[place] for place in chosen], seed=seed, progress=step)
            worth[seed, held_out] = rank([rows[place] for place in held_out])
    return worth


def _limited(places: NDArray[np.int64], limit: int | None, seed: int) -> NDArray[np.int64]:
    if limit is None or len(places) <= limit:
        return places
    return np.sort(np.random.default_rng(seed).choice(places, size=limit, replace=False))


@dataclass(frozen=True, slots=True)
class _Step:
    """One fit's progress as a part of the whole."""

    whole: Progress | None
    done: int
    steps: int

    def __call__(self, stage: str, share: float) -> None:
        if self.whole is not None:
            self.whole(f"fit {self.done + 1} of {self.steps}: {stage}", (self.done + share) / self.steps)
