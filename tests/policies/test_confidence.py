"""The interval for a total, against the exact probability of all draws, and in its extremes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from policies.confidence import LEVELS, SMALLEST, UNSEEN, WEIGHTS, Floats, Row, level_of, total_interval, weight_of

untimed = settings(deadline=None)
Chooses = Callable[[int, tuple[int, ...]], float]  # the probability of a request, given the draws before it

PROBABILITIES = (0.0, 1e-6, 0.03, 0.1, 0.3, 0.45, 0.5, 0.7, 0.95, 1.0)
probabilities = st.sampled_from(PROBABILITIES) | st.floats(0, 1)
losses = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


def add(sums: Floats, probability: float, drawn: bool, loss: float | None) -> None:
    """One request; `loss` None: no result."""
    level, weight = level_of(probability), weight_of(probability)
    sums[Row.SERVED, level] += 1
    if drawn:
        sums[[Row.DRAWN, Row.DRAWN_WEIGHT], level] += 1, weight
        if loss is not None:
            sums[[Row.PAIRS, Row.PAIRS_WEIGHT], level] += 1, weight
            sums[[Row.HARMFUL, Row.HARMFUL_WEIGHT], level] += loss, loss * weight


def nothing() -> Floats:
    return np.zeros((len(Row), LEVELS))


def missed(requests: Sequence[tuple[float, bool]], chooses: Chooses, delta: float) -> tuple[float, float]:
    """The exact probability that the lower, and that the upper bound is wrong at some look.

    `requests`: the loss, and whether a draw has its result at once or never.
    """
    looks, chances = [], []
    for draws in itertools.product((0, 1), repeat=len(requests)):
        sums, chance = nothing(), 1.0
        for number, (loss, answered) in enumerate(requests):
            probability = chooses(number, draws[:number])
            chance *= probability if draws[number] else 1 - probability
            if chance == 0:
                break
            add(sums, probability, bool(draws[number]), loss if answered else None)
            looks.append(sums.copy())
        else:
            chances.append(chance)
            continue
        del looks[len(chances) * len(requests) :]
    low, high = total_interval(np.array(looks), delta)
    truth = np.tile(np.cumsum([loss for loss, _ in requests]), len(chances))
    wrong = np.array([low > truth + 1e-9, high < truth - 1e-9]).reshape(2, len(chances), -1).any(axis=2)
    below, above = wrong @ np.array(chances)
    return float(below), float(above)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(losses, probabilities, st.booleans()), min_size=1, max_size=8),
    st.sampled_from([0.05, 0.5, 1.0, 1.8]),
)
def test_each_bound_is_wrong_at_some_look_with_at_most_half_of_delta(
    requests: list[tuple[float, float, bool]], delta: float
) -> None:
    known = [(loss, answered) for loss, _, answered in requests]
    below, above = missed(known, lambda number, _: requests[number][1], delta)
    assert below <= delta / 2 + 1e-9
    assert above <= delta / 2 + 1e-9


@settings(deadline=None, max_examples=40)
@given(
    st.lists(losses, min_size=2, max_size=8),
    st.lists(probabilities, min_size=3, max_size=3),
    st.sampled_from([0.5, 1.0, 1.8]),
)
def test_the_probability_may_depend_on_what_was_drawn_before(
    values: list[float], choices: list[float], delta: float
) -> None:
    def chooses(number: int, before: tuple[int, ...]) -> float:
        harmful = sum(loss for loss, drawn in zip(values, before, strict=False) if drawn)
        return choices[0] if harmful >= 2 else choices[1] if sum(before[-2:]) else choices[2]

    below, above = missed([(loss, True) for loss in values], chooses, delta)
    assert below <= delta / 2 + 1e-9
    assert above <= delta / 2 + 1e-9


def test_the_bounds_are_not_kept_by_being_idle() -> None:
    below, above = missed([(1.0, True), (0.0, True)] * 5, lambda *_: 0.2, 1.8)
    assert below > 0.2
    assert above > 0.2


rows = st.lists(st.tuples(probabilities, st.booleans(), st.none() | losses), max_size=40)


def sums_of(requests: Sequence[tuple[float, bool, float | None]]) -> Floats:
    sums = nothing()
    for probability, drawn, loss in requests:
        add(sums, probability, drawn and probability > 0, loss)
    return sums


@untimed
@given(rows, st.sampled_from([1e-6, 0.05, 0.5]))
def test_the_interval_is_between_the_certainties_and_around_the_weighted_sum(
    requests: list[tuple[float, bool, float | None]], delta: float
) -> None:
    sums = sums_of(requests)
    low, high = total_interval(sums, delta)
    harmful, pairs = sums[Row.HARMFUL].sum(), sums[Row.PAIRS].sum()
    assert harmful - 1e-9 <= low <= high + 1e-9 <= sums[Row.SERVED].sum() - (pairs - harmful) + 2e-9
    weighted = sums[Row.HARMFUL_WEIGHT].sum()
    assert low <= weighted + 1e-6 * (1 + weighted)
    if all(probability >= 0.5 or not drawn for probability, drawn, _ in requests):
        assert min(weighted, sums[Row.SERVED].sum() - (pairs - harmful)) <= high + 1e-6


def interval_in_order(requests: Sequence[tuple[float, bool, float | None]]) -> tuple[Floats, Floats]:
    """At a delta of 0.05; without draws so unlikely that one bound is past the other, where a smaller delta narrows."""
    low, high = total_interval(sums_of(requests), 0.05)
    wider_low, wider_high = total_interval(sums_of(requests), 0.04)
    assume(wider_low <= low + 1e-6 and wider_high >= high - 1e-6)
    return low, high


@untimed
@given(rows, losses)
def test_a_result_only_narrows_the_side_it_speaks_for(
    requests: list[tuple[float, bool, float | None]], either: float
) -> None:
    """But for the certainties, which have the last word where draws were so unlikely that a bound is past them."""
    before, after, harmful, harmless = (
        interval_in_order([(0.3, True, loss), *requests]) for loss in (None, either, 1.0, 0.0)
    )
    assert after[0] >= min(before[0], after[1]) - 1e-6
    assert after[1] <= max(before[1], after[0]) + 1e-6
    assert harmful[1] == pytest.approx(max(before[1], harmful[0]), abs=1e-6)
    assert harmless[0] == pytest.approx(min(before[0], harmless[1]), abs=1e-6)


@untimed
@given(rows, rows, st.sampled_from([0.05, 0.3]))
def test_many_at_once_are_as_each_alone(
    one: list[tuple[float, bool, float | None]], other: list[tuple[float, bool, float | None]], delta: float
) -> None:
    both = total_interval(np.stack([sums_of(one), sums_of(other)]), np.array([0.1, delta]))
    alone = [total_interval(sums_of(one), 0.1), total_interval(sums_of(other), delta)]
    assert np.array(alone) == pytest.approx(np.array(both).T, abs=1e-6)


@untimed
@given(st.lists(losses, max_size=30))
def test_all_seen_with_certainty_leaves_no_doubt(values: list[float]) -> None:
    low, high = total_interval(sums_of([(1.0, True, loss) for loss in values]), 0.05)
    assert [low, high] == pytest.approx([sum(values)] * 2, abs=1e-9)


def test_requests_seen_with_certainty_add_no_doubt_to_the_others() -> None:
    sampled = [(0.5, number % 2 == 0, float(number % 8 == 0)) for number in range(200)]
    certain = [(1.0, True, float(number % 3 == 0)) for number in range(300)]
    low, high = total_interval(sums_of(sampled), 0.05)
    assert total_interval(sums_of(sampled + certain), 0.05) == pytest.approx((low + 100, high + 100))


@pytest.mark.parametrize("probability", [0.0, 1e-12, 5e-324])
def test_where_nobody_can_look_nothing_is_known(probability: float) -> None:
    assert total_interval(sums_of([(probability, False, None)] * 50), 0.05) == pytest.approx((0, 50))
    known = [(0.5, number % 2 == 0, 0.0) for number in range(2000)]
    alone = total_interval(sums_of(known), 0.05)[1]
    assert total_interval(sums_of([*known, *[(probability, False, None)] * 50]), 0.05)[1] == pytest.approx(alone + 50)


def test_a_draw_of_a_probability_too_small_to_teach_is_still_a_certainty() -> None:
    requests = [(1e-9, True, 1.0), (1e-9, True, 0.0), (0.0, False, None)]
    assert total_interval(sums_of(requests), 0.05) == pytest.approx((1, 2))


def test_shed_requests_that_were_seen_harmless_speak_for_others_of_their_kind() -> None:
    known = [(0.5, number % 2 == 0, float(number % 20 == 0)) for number in range(1000)]
    shed = [(0.01, number % 100 == 0, 0.0) for number in range(300)]
    apart = total_interval(sums_of(known), 0.05)[1] + 300
    assert total_interval(sums_of(known + shed), 0.05)[1] < apart - 50


def test_a_level_drawn_far_too_often_does_not_pay_for_another() -> None:
    known = [(0.5, number % 2 == 0, float(number % 20 == 0)) for number in range(1000)]
    too_often = [(0.01, True, 0.0)] * 300
    assert total_interval(sums_of(known + too_often), 0.05)[1] == pytest.approx(total_interval(sums_of(known), 0.05)[1])


@pytest.mark.parametrize("probability", [0.5, 0.05, 0.004])
@pytest.mark.parametrize("pairs", [10, 100, 1000, 10**5, 10**7])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.4])
def test_the_grid_costs_little_against_the_best_single_bet(probability: float, pairs: int, rate: float) -> None:
    """The distance from the estimate to the bound, with a probability at a level's edge."""
    edge = 1 / WEIGHTS[level_of(probability)]
    sums, level, harmful = nothing(), level_of(edge), round(rate * pairs)
    sums[:, level] = pairs / edge, pairs, pairs / edge, pairs, pairs / edge, harmful, harmful / edge
    low, high = total_interval(sums, 0.05)
    bets = np.geomspace(1e-9, 1 - 1e-9, 20_000)
    bets, goal = bets[bets < edge], math.log(40)
    rates = -np.log1p(-bets)
    best_high = ((goal - harmful * np.log1p(-bets / edge)) / rates).min()
    best_low = ((harmful * np.log1p(np.expm1(rates) / edge) - goal) / rates).max()
    most = pairs / edge - (pairs - harmful)
    assert high - harmful / edge <= (1.6 if harmful > 1 else 2) * (min(best_high, most) - harmful / edge)
    assert harmful / edge - low <= 1.6 * (harmful / edge - max(best_low, harmful))


def test_levels_hold_the_probabilities_down_to_the_next() -> None:
    assert [level_of(value) for value in (1.0, 0.999, 0.75, 0.7, 0.5, 0.49)] == [0, 1, 1, 2, 2, 3]
    assert level_of(SMALLEST) == UNSEEN - 1
    assert [level_of(value) for value in (SMALLEST * 0.999, 5e-324, 0.0)] == [UNSEEN] * 3


@untimed
@given(st.floats(SMALLEST, 1.0))
def test_a_probability_is_within_its_level(probability: float) -> None:
    level = level_of(probability)
    assert 1 / probability <= WEIGHTS[level] * (1 + 1e-12)
    assert level == 0 or 1 / probability >= WEIGHTS[level - 1] * (1 - 1e-12)


@pytest.mark.parametrize("probability", [-0.1, 1.0000001, math.nan, math.inf, -math.inf])
def test_what_is_no_probability_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="not in"):
        level_of(probability)
