"""The pace of a budget: that the price makes the money last, and is used."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.bounds import Floats
from policies.control.pace import MOST_PRICE, Pace, Spending, worth_bin

WINDOW_S = 3600.0
STEP_S = 10.0


@dataclass
class Run:
    """Windows of requests through a pace: what was spent and lost in each, and the least loss for the same money."""

    spent: list[float]
    lost: list[float]
    least: list[float]
    pace: Pace


def run(
    target_usd: float,
    windows: int,
    *,
    per_step: float = 20.0,
    loss_scale: float = 1.0,
    error: float = 1.0,
    aside_usd: float = 0.0,
) -> Run:
    """`error`: what teachers really cost, relative to what was expected; `aside_usd`: spent on each request anyway."""
    rng = np.random.default_rng(7)
    pace, result = Pace(target_usd), Run([], [], [], Pace(target_usd))
    for window in range(windows):
        start, spent, lost = window * WINDOW_S, 0.0, 0.0
        seen: list[tuple[Floats, Floats]] = []
        for step in range(round(WINDOW_S / STEP_S)):
            count = rng.poisson(per_step)
            losses, costs = rng.beta(0.6, 3.0, count) * loss_scale, rng.lognormal(-6.0, 0.7, count)
            teacher = losses >= pace.price * costs
            spent += float(costs[teacher].sum()) * error + aside_usd * count
            lost += float(losses[~teacher].sum())
            seen.append((losses, costs))
            now, taken = start + (step + 1) * STEP_S - 1e-6, float(costs[teacher].sum())
            pace.observe(now, Spending(start, start + WINDOW_S, spent), worth(losses, costs), taken)
        result.spent.append(spent)
        result.lost.append(lost)
        losses, costs = (np.concatenate(each) for each in zip(*seen, strict=True))
        result.least.append(least_loss(losses, costs * error, target_usd - aside_usd * len(losses)))
    result.pace = pace
    return result


def worth(losses: Floats, costs: Floats) -> dict[int, list[float]]:
    cells: dict[int, list[float]] = {}
    for loss, cost in zip(losses.tolist(), costs.tolist(), strict=True):
        cell = cells.setdefault(worth_bin(loss, cost), [0, 0.0])
        cell[0] += 1
        cell[1] += cost
    return cells


def least_loss(losses: Floats, costs: Floats, money: float) -> float:
    """Of the best fixed price in hindsight."""
    best_first = np.argsort(-losses / costs)
    taken = np.cumsum(costs[best_first]) <= money
    return float(losses[best_first][~taken].sum())


def test_the_money_lasts_through_each_window_and_is_used() -> None:
    done = run(target_usd=6.0, windows=4)
    assert all(0.97 * 6.0 <= spent <= 1.02 * 6.0 for spent in done.spent)


def test_the_loss_is_close_to_that_of_the_best_price_in_hindsight() -> None:
    done = run(target_usd=6.0, windows=4)
    assert all(lost <= 1.05 * least for lost, least in zip(done.lost[1:], done.least[1:], strict=True))


def test_money_for_everything_makes_everything_worth_it() -> None:
    done = run(target_usd=1e6, windows=1)
    assert done.pace.price == 0.0
    assert done.lost == [0.0]


def test_expected_costs_that_are_wrong_are_made_up_for() -> None:
    for error in (0.6, 1.6):
        assert all(0.97 * 6.0 <= spent <= 1.02 * 6.0 for spent in run(6.0, 2, error=error).spent)


def test_what_others_spend_of_the_budget_is_left_to_them() -> None:
    done = run(6.0, 2, aside_usd=0.0004)  # nearly half of it
    assert all(0.97 * 6.0 <= spent <= 1.02 * 6.0 for spent in done.spent)


def test_requests_that_are_all_worth_the_same_are_taken_in_part_and_evenly() -> None:
    pace, spent = Pace(1.0), 0.0
    halfway = None
    for step in range(360):
        taken = 20 * 0.001 if pace.price <= 0.3 / 0.001 else 0.0
        spent += taken
        now = (step + 1) * STEP_S - 1e-6
        pace.observe(now, Spending(0.0, WINDOW_S, spent), {worth_bin(0.3, 0.001): [20, 20 * 0.001]}, taken)
        halfway = spent if step == 180 else halfway
    assert halfway == pytest.approx(0.5, abs=0.06)
    assert spent == pytest.approx(1.0, abs=0.03)


def test_what_was_spent_while_nothing_came_is_not_laid_on_the_requests_that_follow() -> None:
    pace, spent = Pace(10.0), 0.0
    cells = {worth_bin(0.3, 0.001): [10, 0.01], worth_bin(0.03, 0.001): [10, 0.01]}
    for step in range(1, 200):
        if step <= 100:
            spent += 0.02
            pace.observe(step * STEP_S, Spending(0.0, WINDOW_S, spent), cells, 0.02)
        else:
            spent += 0.05  # others, while this route is quiet
            pace.observe(step * STEP_S, Spending(0.0, WINDOW_S, spent), {}, 0.0)
    pace.observe(2001.0, Spending(0.0, WINDOW_S, spent), cells, 0.02)
    assert pace.price == 0.0  # there is money for all that will come


def test_a_spent_budget_makes_nothing_worth_it() -> None:
    pace = Pace(1.0)
    pace.observe(10.0, Spending(0.0, WINDOW_S, 1.0), {worth_bin(0.9, 0.001): [5, 0.005]}, 0.005)
    assert pace.price == MOST_PRICE
    assert pace.price * 1e-9 > 1.0


def test_a_new_window_begins_with_new_money() -> None:
    pace = Pace(1.0)
    cells = {worth_bin(0.9, 0.001): [5, 0.005]}
    pace.observe(WINDOW_S - 10.0, Spending(0.0, WINDOW_S, 0.995), cells, 0.005)
    pace.observe(WINDOW_S - 1.0, Spending(0.0, WINDOW_S, 1.0), cells, 0.005)
    assert pace.price == MOST_PRICE
    pace.observe(WINDOW_S + 1.0, Spending(WINDOW_S, 2 * WINDOW_S, 0.0), cells, 0.005)
    assert pace.price < MOST_PRICE


def test_a_pace_that_was_dumped_goes_on_alike() -> None:
    pace = run(6.0, 1).pace
    again = Pace.load(6.0, json.loads(json.dumps(pace.dump())))
    cells = {worth_bin(0.3, 0.002): [10, 0.02]}
    for each in (pace, again):
        each.observe(WINDOW_S + 5.0, Spending(WINDOW_S, 2 * WINDOW_S, 0.01), cells, 0.005)
    assert again.price == pace.price > 0.0


def test_a_state_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format"):
        Pace.load(1.0, {"format": 99})


def test_what_costs_nothing_is_worth_everything() -> None:
    assert worth_bin(0.01, 0.0) == worth_bin(0.01, -1.0) > worth_bin(1.0, 1e-6) > worth_bin(0.0, 1e-6)


@given(st.floats(1e-9, 1), st.floats(1e-9, 100), st.floats(1e-9, 1), st.floats(1e-9, 100))
def test_bins_are_in_the_order_of_worth(loss: float, cost: float, other_loss: float, other_cost: float) -> None:
    if loss / cost > other_loss / other_cost:
        assert worth_bin(loss, cost) >= worth_bin(other_loss, other_cost)


@settings(max_examples=40)
@given(
    st.floats(0, 10),
    st.lists(
        st.tuples(
            st.floats(0, 2000),
            st.floats(0, 20),
            st.dictionaries(st.integers(-640, 640), st.tuples(st.integers(1, 50), st.floats(0, 1))),
        ),
        max_size=20,
    ),
)
def test_the_price_is_always_a_number_that_can_be_held_against_a_cost(
    target: float, steps: list[tuple[float, float, dict[int, tuple[int, float]]]]
) -> None:
    pace, now = Pace(target), 0.0
    for span, spent, cells in steps:
        now += span
        start = now // WINDOW_S * WINDOW_S
        pace.observe(now, Spending(start, start + WINDOW_S, spent), cells, spent / 2)
        assert 0.0 <= pace.price <= MOST_PRICE
        assert np.isfinite(pace.price * 1e6)
