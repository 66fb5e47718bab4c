"""Decisions drawn at random support what a candidate costs; certain ones support nothing else than themselves."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from policies.replay.log import Decided
from policies.replay.randomised import RandomisedCost, randomised_cost
from policies.replay.support import NoSupport, require_pairs, supported


def decisions(logged: float, candidate: float | None, count: int = 100) -> list[Decided]:
    """The teacher costs 1, the student 0.1."""
    rng = np.random.default_rng(7)
    by_teacher = rng.random(count) < logged
    return [
        Decided(float(n), "teacher" if each else "student", logged, 1.0 if each else 0.1, candidate)
        for n, each in enumerate(by_teacher)
    ]


def cost(decided: list[Decided], features: np.ndarray | None = None) -> RandomisedCost:
    known = np.zeros((len(decided), 1)) if features is None else features
    return randomised_cost(supported(decided), known, 0.05, 10)


def test_a_threshold_supports_no_other_decision() -> None:
    for certain, candidate in ((1.0, 0.0), (0.0, 0.5), (1.0, 0.9)):
        with pytest.raises(NoSupport, match=r"100\.0% of the logged decisions had a probability of 0 or 1"):
            supported(decisions(certain, candidate))


def test_a_candidate_that_decides_as_the_log_needs_no_draws() -> None:
    assert len(supported(decisions(1.0, 1.0))) == 100


def test_a_few_decisions_without_support_are_left_out() -> None:
    mixed = [*decisions(0.5, 0.0, 995), *decisions(1.0, 0.0, 5)]
    assert len(supported(mixed)) == 995
    with pytest.raises(NoSupport, match=r"2\.0% of"):
        supported([*decisions(0.5, 0.0, 98), *decisions(1.0, 0.0, 2)])


def test_a_candidate_that_looks_at_the_text_cannot_be_judged_by_rows() -> None:
    with pytest.raises(NoSupport, match="more than a decision row keeps"):
        supported(decisions(0.5, None))
    with pytest.raises(NoSupport, match="no decisions"):
        supported([])


def test_the_cost_of_one_arm_is_the_mean_of_the_requests_that_drew_it() -> None:
    found = cost(decisions(0.5, 1.0))
    assert found.snips.value == pytest.approx(1.0) and found.doubly_robust.value == pytest.approx(1.0)
    assert found.teacher_share == 1.0 and found.logged_teacher_share == 0.5
    assert found.effective == sum(each.arm == "teacher" for each in decisions(0.5, 1.0))


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(NoSupport, match=r"worth 8 .* at least 10 are needed"):
        cost(decisions(0.05, 1.0, 100))
    require_pairs(np.ones(50), 50)
    with pytest.raises(NoSupport, match="49 audited requests: at least 50"):
        require_pairs(np.ones(49), 50)
    with pytest.raises(NoSupport, match="100 audited requests, worth 4 equally"):
        require_pairs(np.array([1000.0, *[10.0] * 99]), 50)


def test_the_cost_is_unbiased_and_its_interval_covers() -> None:
    rng = np.random.default_rng(8)
    runs, errors, covered = 80, [], np.zeros(3)
    for _ in range(runs):
        size = np.exp(0.5 * rng.normal(size=1500))
        candidate = (size > 1.2).astype(float)
        by_teacher = rng.random(1500) < 0.3
        usd = np.where(by_teacher, size, 0.1 * size)
        decided = [
            Decided(float(n), "teacher" if each else "student", 0.3, float(usd[n]), float(candidate[n]))
            for n, each in enumerate(by_teacher)
        ]
        found = cost(decided, size[:, None])
        whole = float(np.exp(0.125))
        true = _mean_above(1.2) + 0.1 * (whole - _mean_above(1.2))
        logged = 0.3 * whole + 0.7 * 0.1 * whole
        figures = ((found.snips, true), (found.doubly_robust, true), (found.difference, true - logged))
        errors.append([figure.value - expected for figure, expected in figures])
        covered += [figure.low <= expected <= figure.high for figure, expected in figures]
    spread = np.std(errors, axis=0)
    assert (np.abs(np.mean(errors, axis=0)) < 3.3 * spread / runs**0.5).all()
    assert (covered / runs >= 0.95 - 3.3 * (0.0475 / runs) ** 0.5).all()
    assert spread[1] < spread[0]


def _mean_above(level: float) -> float:
    """E[X; X > level] of X = exp(N/2): exp(1/8) P(N > 2 log level - 1/2)."""
    return float(np.exp(0.125)) * (1 - NormalDist().cdf(2 * np.log(level) - 0.5))
