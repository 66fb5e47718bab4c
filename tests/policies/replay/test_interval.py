"""Intervals hold their value, agree with exact ones where there are some, and do not collapse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.bounds import clopper_pearson, student_t
from policies.replay.interval import Figure, difference, money, share

shares = st.floats(0, 1)
variances = st.floats(0, 0.3)


@given(st.integers(0, 200), st.integers(1, 200))
def test_a_share_of_equal_independent_draws_has_the_exact_interval(hits: int, trials: int) -> None:
    hits = min(hits, trials)
    part = hits / trials
    found = share(part, part * (1 - part) / trials, trials, 0.05)
    exact = clopper_pearson(hits, trials, 0.05)
    assert [found.low, found.high] == pytest.approx([exact.low, exact.high], abs=1e-9)


@given(shares, variances, st.floats(0, 1e5), st.floats(0.01, 1))
def test_a_share_lies_in_its_interval_and_that_in_what_is_possible(
    value: float, variance: float, effective: float, largest: float
) -> None:
    found = share(value * largest, variance, effective, 0.05, largest)
    assert 0 <= found.low <= found.value <= found.high <= largest * (1 + 1e-9)


def test_a_share_of_clustered_draws_has_a_wider_interval() -> None:
    independent, clustered = share(0.1, 0.09 / 1000, 1000, 0.05), share(0.1, 4 * 0.09 / 1000, 1000, 0.05)
    assert clustered.low < independent.low and clustered.high > independent.high


def test_no_loss_in_so_many_draws_still_has_an_upper_limit() -> None:
    assert share(0.0, 0.0, 300, 0.05).high == pytest.approx(1 - 0.025 ** (1 / 300))


def test_a_share_that_came_out_impossible_is_moved_to_the_edge() -> None:
    below, above = share(-0.01, 0.0001, 100, 0.05), share(0.41, 0.0001, 100, 0.05, 0.4)
    assert (below.value, below.low) == (0.0, 0.0) and below.high > 0
    assert (above.value, above.high) == (0.4, 0.4) and above.low < 0.4


def test_fewer_draws_than_one_say_nothing() -> None:
    assert share(0.2, 0.0, 0.5, 0.05, 0.4) == Figure(0.2, 0.0, 0.4)


@given(shares, shares, variances, variances, st.floats(-1, 1))
def test_a_difference_lies_in_its_interval(
    more: float, less: float, first: float, second: float, together: float
) -> None:
    covariance = together * (first * second) ** 0.5
    found = difference(share(more, first, 100, 0.05), share(less, second, 100, 0.05), covariance, (first, second))
    assert found.low <= found.value <= found.high


def test_what_goes_together_makes_a_difference_surer() -> None:
    figure = Figure(0.1, 0.05, 0.15)
    together, apart = (difference(figure, figure, covariance, (1.0, 1.0)) for covariance in (0.9, -0.9))
    assert together.high - together.low < apart.high - apart.low


def test_money_has_students_interval_where_nothing_is_skewed() -> None:
    found = money(5.0, 4.0, 0.0, 10, 0.05)
    assert [found.low, found.high] == pytest.approx([5 - 2 * 2.228, 5 + 2 * 2.228], abs=0.01)


@given(st.floats(0.01, 0.8))
def test_costs_with_a_long_tail_reach_further_up_than_down(skewness: float) -> None:
    found = money(5.0, 1.0, skewness, 100, 0.05)
    assert found.high - found.value > found.value - found.low > 0


@pytest.mark.parametrize(("freedom", "expected"), [(2, 4.303), (3, 3.182), (10, 2.228), (30, 2.042), (1000, 1.962)])
def test_the_quantiles_are_those_of_published_tables(freedom: float, expected: float) -> None:
    assert student_t(freedom, 0.05) == pytest.approx(expected, rel=0.01)
