from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.certify.ledger import Ledger

ALPHA, RATE = 0.02, 0.1


def told(requests: int, served: int, harmful: int, harmless: int, rate: float = RATE) -> Ledger:
    ledger = Ledger()
    ledger.count(requests, served)
    harms = np.array([1.0] * harmful + [0.0] * harmless)
    ledger.audited(harms, np.full(len(harms), rate))
    return ledger


def allowed(ledger: Ledger) -> float:
    return ledger.allowed(ALPHA, 1.5, RATE, horizon=1_500, kept=6_000)


def test_the_loss_is_that_of_the_audits_times_what_was_served() -> None:
    assert told(1_000, 500, harmful=4, harmless=46).loss == pytest.approx(40)


def test_audits_without_a_result_count_like_the_others() -> None:
    assert told(1_000, 500, harmful=2, harmless=23).loss == told(1_000, 500, harmful=4, harmless=46).loss


def test_audits_of_unequal_probabilities_are_weighted() -> None:
    ledger = told(1_000, 550, harmful=1, harmless=4, rate=0.1)
    ledger.audited(np.zeros(250), np.full(250, 0.5))
    assert ledger.loss == pytest.approx(10)


def test_nothing_may_be_lost_after_a_disaster_until_it_is_worked_off() -> None:
    ledger = told(2_000, 400, harmful=10, harmless=30)
    assert allowed(ledger) == 0.0
    ledger.count(20_000, 0)
    assert allowed(ledger) > ALPHA / 2


def test_a_quiet_year_is_not_saved_up() -> None:
    ledger = told(10_000, 1_000, harmful=2, harmless=98)
    ledger.count(10_000_000, 0)
    assert allowed(ledger) <= ALPHA * (1 + 6_000 / 1_500)
    ledger.count(0, 7_000)  # at 2%: 140 lost, more than 6,000 requests may lose
    assert allowed(ledger) < ALPHA


@given(
    st.integers(1, 10**6),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 1)), max_size=30),
)
def test_what_is_allowed_is_finite_and_never_negative(
    requests: int, share: float, audits: list[tuple[float, float]]
) -> None:
    ledger = Ledger()
    ledger.count(requests, int(share * requests))
    if audits:
        ledger.audited(*(np.array(column) for column in zip(*audits, strict=True)))
    assert 0 <= allowed(ledger) < math.inf
    assert ledger.settle(ALPHA, 0.0, 10.0) <= 10.0


@given(st.integers(0, 40), st.integers(0, 40))
def test_more_losses_never_allow_more(harmful: int, more: int) -> None:
    few, many = (told(5_000, 800, harmful + extra, 80 - harmful - extra + 40) for extra in (0, more))
    assert allowed(many) <= allowed(few)


def test_the_bound_covers_the_total_when_what_is_served_follows_what_is_seen() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(200):
        ledger, lost = Ledger(), 0.0
        for _ in range(60):
            served = int(200 * min(1.0, allowed(ledger) / 0.05))
            harms = (rng.random(served) < 0.1).astype(float)
            drawn = rng.random(served) < RATE
            ledger.count(200, served)
            ledger.audited(harms[drawn], np.full(int(drawn.sum()), RATE))
            lost += harms.sum()
        covered += lost / ledger.requests <= ledger.upper_bound(1.2816, RATE)
    assert covered >= 0.86 * 200
