"""What a candidate would have cost, from decisions that were drawn at random: one arm seen, with its probability.

A drawn arm stands for (probability of the candidate)/(probability of the log) requests. What the student loses such
decisions do not tell: nobody compared its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from policies.bounds import Floats, kish
from policies.replay.estimate import Means, randomised, snips, time_blocks
from policies.replay.interval import Figure, money
from policies.replay.log import Decided
from policies.replay.support import NoSupport


@dataclass(frozen=True, slots=True)
class RandomisedCost:
    """USD per request. `difference`: the candidate's less the logged cost, by the doubly robust estimate.

    `teacher_share`: of the candidate, and `logged_teacher_share`: as it was to be drawn. `effective`: Kish's number of
    decisions.
    """

    snips: Figure
    doubly_robust: Figure
    logged: Figure
    difference: Figure
    teacher_share: float
    logged_teacher_share: float
    decisions: int
    effective: float


def randomised_cost(decided: Sequence[Decided], features: Floats, delta: float, fewest: int) -> RandomisedCost:
    """`decided`: in the order of time, those that speak of the candidate (`policies.replay.support.supported`).

    `features` (n, d): what is known of each request before it was decided. Raises NoSupport where the draws are worth
    less than `fewest` equally weighted ones.
    """
    cost = np.array([[each.cost_usd] for each in decided])
    teacher = np.array([each.arm == "teacher" for each in decided])
    logged = np.array([each.teacher_probability for each in decided])
    candidate = np.array([each.candidate for each in decided], dtype=np.float64)
    weights = np.where(teacher, _ratio(candidate, logged), _ratio(1 - candidate, 1 - logged))
    effective = kish(weights)
    if effective < fewest:
        raise NoSupport(
            f"{len(decided)} decisions are worth {effective:.0f} that the candidate would have drawn: at least "
            f"{fewest} are needed"
        )
    blocks = time_blocks(len(decided))
    plain = snips(cost, weights, blocks)
    sharp = randomised(cost, teacher, candidate, weights, blocks, features)
    before = snips(cost, np.ones(len(decided)), blocks)
    apart = replace(sharp, values=sharp.values - before.values, influence=sharp.influence - before.influence)
    return RandomisedCost(
        snips=_figure(plain, delta),
        doubly_robust=_figure(sharp, delta),
        logged=_figure(before, delta),
        difference=_figure(apart, delta),
        teacher_share=float(candidate.mean()),
        logged_teacher_share=float(logged.mean()),
        decisions=len(decided),
        effective=effective,
    )


def _ratio(wanted: Floats, drawn: Floats) -> Floats:
    """0 where the candidate never takes the arm."""
    answer: Floats = np.divide(wanted, drawn, out=np.zeros_like(wanted), where=wanted > 0)
    return answer


def _figure(means: Means, delta: float) -> Figure:
    value, variance, skewness = means.values[0], means.covariance()[0, 0], means.skewness()[0]
    return money(float(value), float(variance), float(skewness), means.independent - 1, delta)
