"""A policy beside a split of the same cost."""

from __future__ import annotations

import numpy as np
import pytest

from policies.judge.against_split import against_split

RNG = np.random.default_rng(5)
N = 2_000
HARM = (RNG.random(N) < 0.3).astype(float)
TEACHER_USD = RNG.uniform(0.01, 0.03, N)
STUDENT_USD = TEACHER_USD / 10


def test_a_policy_that_sees_the_harm_gains_all_that_a_split_would_lose() -> None:
    found = against_split(HARM, HARM == 0, TEACHER_USD, STUDENT_USD)
    assert found.loss == 0 and found.gain == found.split_loss == pytest.approx(found.split_share * HARM.mean())
    assert 0 < found.interval.low < found.gain < found.interval.high
    assert found.requests == N and found.student_share == pytest.approx(1 - HARM.mean())


def test_a_random_policy_gains_nothing() -> None:
    found = against_split(HARM, RNG.random(N) < 0.5, TEACHER_USD, STUDENT_USD)
    assert found.interval.low < 0 < found.interval.high
    assert found.split_share == pytest.approx(found.student_share, abs=0.03)


def test_the_interval_covers_what_a_fresh_sample_shows() -> None:
    """Of a policy that is right three times out of four, in samples of 300."""
    truth = against_split(HARM, (HARM == 0) ^ (RNG.random(N) < 0.25), TEACHER_USD, STUDENT_USD)
    covered = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        harm = (rng.random(300) < 0.3).astype(float)
        costs = rng.uniform(0.01, 0.03, 300)
        found = against_split(harm, (harm == 0) ^ (rng.random(300) < 0.25), costs, costs / 10, seed=seed)
        covered += found.interval.low <= truth.gain <= found.interval.high
    assert covered >= 24


@pytest.mark.parametrize(("n", "cheap"), [(0, 0.1), (5, 1.0)])
def test_what_cannot_be_compared_is_refused(n: int, cheap: float) -> None:
    with pytest.raises(ValueError, match=r"no request|does not cost less"):
        against_split(HARM[:n], HARM[:n] == 0, TEACHER_USD[:n], TEACHER_USD[:n] * cheap)
