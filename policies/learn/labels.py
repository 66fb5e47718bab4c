"""What judged examples say, as arrays: the part of training that is the same for every kind of policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.bounds import kish
from policies.learn import folds
from policies.learn.artifact import CalibrationSet
from policies.learn.example import Example
from policies.learn.rows import Floats, Ints

MIN_EXAMPLES = 30
MIN_OF_A_CLASS = 8
FEW = 200  # below: structure and identity only
FOLDS = 5


class TooFewLabels(ValueError):
    """There is not enough to learn from, and the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Of n examples. `harm`, `weight`: (n,). `scores`: the teacher's and the student's, (n, 2), where all are known.

    `until`: the time of the latest example in Unix seconds, 0 where no times are known.
    """

    harm: Floats
    weight: Floats
    groups: tuple[str, ...]
    scores: Floats | None
    until: float

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Labels:
        """Raises TooFewLabels unless there are enough of both classes, by their weights, and groups to fold.

        ValueError for a harm outside [0, 1] or a weight that is none.
        """
        labels = cls(
            harm=np.array([example.harm for example in examples], dtype=np.float64),
            weight=np.array([example.weight for example in examples], dtype=np.float64),
            groups=tuple(example.group for example in examples),
            scores=_scores(examples),
            until=max((example.time for example in examples), default=0.0),
        )
        labels._check_values()
        labels._check_counts()
        return labels

    @property
    def heads(self) -> tuple[tuple[str, ...], Floats]:
        """What there is to predict, and the targets, shape (n, heads)."""
        return (("harm",), self.harm[:, None]) if self.scores is None else (("teacher", "student"), self.scores)

    def fold(self, seed: int) -> Ints:
        """The fold of each example; every fold has its share of each outcome."""
        strata = list(map(tuple, (self.heads[1] > 0.5).tolist()))
        return folds.assign(self.groups, strata, FOLDS, seed)

    def calibration_set(self, loss: Floats, novelty: Floats, seed: int) -> CalibrationSet:
        """Of out-of-sample losses, (n,): one example of each group, for what a group says together is no two pairs.

        It stands for its group: its weight is multiplied by the group's size.
        """
        places, sizes = folds.one_of_each(self.groups, seed)
        return CalibrationSet(loss[places], novelty[places], self.harm[places], self.weight[places] * sizes)

    def _check_values(self) -> None:
        fits = (self.harm >= 0) & (self.harm <= 1) & (self.weight > 0) & np.isfinite(self.weight)
        if not fits.all():
            place = int(np.argmin(fits))
            found = f"harm {self.harm[place]:g} and weight {self.weight[place]:g}"
            raise ValueError(f"example {place} has {found}: a harm lies in [0, 1] and a weight is a number above 0")

    def _check_counts(self) -> None:
        count = kish(self.weight)
        harmful = count * float(np.average(self.harm, weights=self.weight)) if len(self.harm) else 0.0
        if count < MIN_EXAMPLES - 1e-6 or min(harmful, count - harmful) < MIN_OF_A_CLASS - 1e-6:
            by_weight = "" if count > len(self.harm) - 0.5 else f" (of {len(self.harm)}, by their weights)"
            raise TooFewLabels(
                f"training needs at least {MIN_EXAMPLES} judged requests, {MIN_OF_A_CLASS} of them with harm and "
                f"{MIN_OF_A_CLASS} without; there are {count:.4g}, {harmful:.4g} with harm{by_weight}: "
                "collect more"
            )
        groups = folds.count(self.groups)
        if groups < FOLDS:
            raise TooFewLabels(
                f"training needs judged requests of at least {FOLDS} conversations, there are {groups}: collect more"
            )


def _scores(examples: Sequence[Example]) -> Floats | None:
    if any(example.teacher is None or example.student is None for example in examples):
        return None
    return np.array([[example.teacher, example.student] for example in examples], dtype=np.float64)
