"""A policy beside a random split of the same cost, from requests that both arms answered.

A split that gives the share x to the student costs C_t - x (C_t - C_s) and loses x H on average, with H the mean harm
of the student's answers and C_t, C_s the arms' mean costs. At the cost C of the policy, x = (C_t - C) / (C_t - C_s).
What the policy gains is x H minus its own loss; a policy no better than chance gains 0. The interval is a percentile
bootstrap over requests with Poisson weights (Hanley and MacGibbon 2006), so that cost, harm and arms stay together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.bounds import Floats, Interval

RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class AgainstSplit:
    """`loss` and `split_loss` are shares of the requests; `gain` is their difference, with its 95% interval.

    `cost_usd`: of the policy, mean of a request. `student_share`: the policy's; the split's is `split_share`.
    """

    requests: int
    student_share: float
    split_share: float
    cost_usd: float
    loss: float
    split_loss: float
    gain: float
    interval: Interval


def against_split(
    harm: Floats, student: NDArray[np.bool_], teacher_cost_usd: Floats, student_cost_usd: Floats, *, seed: int = 0
) -> AgainstSplit:
    """`harm` of the student's answer, whether the policy let the `student` answer, and both arms' costs: shape (n,).

    Raises ValueError without requests, on shapes that differ, or where the student does not cost less.
    """
    columns = np.stack(
        [
            harm,
            harm * student,
            np.where(student, student_cost_usd, teacher_cost_usd),
            teacher_cost_usd,
            student_cost_usd,
        ]
    )
    count = columns.shape[1]
    if count == 0:
        raise ValueError("there is no request to compare on")
    means = columns.mean(axis=1)
    if means[3] <= means[4]:
        raise ValueError("the student does not cost less than the teacher: no split has the policy's cost")
    draws = np.random.default_rng(seed).poisson(1.0, size=(count, RESAMPLES)).astype(np.float64)
    gains = _gain(columns @ draws / np.maximum(draws.sum(axis=0), 1.0))
    low, high = np.quantile(gains, [0.025, 0.975])
    split_share = float((means[3] - means[2]) / (means[3] - means[4]))
    return AgainstSplit(
        requests=count,
        student_share=float(student.mean()),
        split_share=split_share,
        cost_usd=float(means[2]),
        loss=float(means[1]),
        split_loss=split_share * float(means[0]),
        gain=float(_gain(means)),
        interval=Interval(float(low), float(high)),
    )


def _gain(means: Floats) -> Floats:
    """Of rows harm, own loss, own cost, teacher's cost, student's cost."""
    gain: Floats = (means[3] - means[2]) / (means[3] - means[4]) * means[0] - means[1]
    return gain
