"""Simulated traffic of which the truth is known: conversations, two arms, a log, its audits, a candidate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.base import Arm
from policies.bounds import Floats
from policies.replay.estimate import Population, time_blocks
from policies.replay.frontier import Choosable
from policies.replay.log import Decided, Logged, Outcome

STUDENT_SHARE = 0.5  # of the split that wrote the log
THRESHOLD = 0.5  # of the candidate


@dataclass(frozen=True, slots=True)
class World:
    """What a log shows: of the audited requests both arms, of all of them a decision and `features`.

    `truth`: cost and loss of the candidate, then of the log; `scores`, `harm`: of all requests.
    """

    requests: list[Logged]
    logged: list[Outcome]
    candidate: list[Outcome]
    choosable: list[Choosable]
    population: Population
    decided: list[Decided]
    features: Floats
    truth: Floats
    scores: Floats
    harm: Floats


def world(
    rng: np.random.Generator, conversations: int, audit: float, turns: float = 1.0, rare: float = 2.2, tail: float = 0.5
) -> World:
    """A split logged it; the candidate sends what looks hard to the teacher. Hard requests are audited more often.

    `turns`: of a conversation, on average; `rare`: minus the log-odds of harm; `tail`: the standard deviation of the
    logarithm of costs.
    """
    lengths = 1 + rng.poisson(turns - 1, conversations) if turns > 1 else np.ones(conversations, dtype=int)
    of = np.repeat(np.arange(conversations), lengths)
    count = len(of)
    hard = np.repeat(rng.normal(size=conversations), lengths) * (turns > 1) + rng.normal(size=count)
    harm = (rng.random(count) < 1 / (1 + np.exp(rare - 1.2 * hard))).astype(float)
    size = tail * rng.normal(size=count) + 0.3 * hard
    teacher_usd = np.exp(size + 0.2 * rng.normal(size=count))
    student_usd = 0.1 * np.exp(size + 0.2 * rng.normal(size=count))
    by_teacher = np.repeat(rng.random(conversations) >= STUDENT_SHARE, lengths)
    score = 1 / (1 + np.exp(-(hard + rng.normal(size=count))))
    chance = np.where(hard > 1, min(1.0, 2 * audit), audit)
    drawn = np.flatnonzero(rng.random(count) < chance)
    cost, served = np.column_stack([student_usd, teacher_usd]), np.where(by_teacher, teacher_usd, student_usd)
    logged = _outcomes(np.full(count, 1 - STUDENT_SHARE), cost, harm)
    arms: list[Arm] = ["teacher" if each else "student" for each in by_teacher]
    wanted = (score >= THRESHOLD).astype(float)
    candidate = _outcomes(wanted, cost, harm)
    before = np.column_stack([size, np.exp(size)])
    after = np.column_stack([before, by_teacher, served, by_teacher * served])
    return World(
        requests=[
            Logged(f"{i}", f"{of[i]}", float(i), float(chance[i]), float(harm[i]), float(cost[i, 1]), float(cost[i, 0]))
            for i in drawn
        ],
        logged=[Outcome(*map(float, logged[i])) for i in drawn],
        candidate=[Outcome(*map(float, candidate[i])) for i in drawn],
        choosable=[
            Choosable(
                float(score[i]), Outcome(0.0, float(cost[i, 0]), float(harm[i])), Outcome(1.0, float(cost[i, 1]), 0.0)
            )
            for i in drawn
        ],
        population=Population(after, time_blocks(count), np.arange(len(drawn)), drawn),
        decided=[
            Decided(
                float(i),
                arms[i],
                1 - STUDENT_SHARE,
                float(served[i]),
                float(wanted[i]),
            )
            for i in range(count)
        ],
        features=before,
        truth=np.concatenate([candidate[:, 1:].mean(axis=0), logged[:, 1:].mean(axis=0)]),
        scores=score,
        harm=harm,
    )


def _outcomes(teacher: Floats, cost: Floats, harm: Floats) -> Floats:
    student = 1 - teacher
    return np.column_stack([teacher, teacher * cost[:, 1] + student * cost[:, 0], student * harm])
