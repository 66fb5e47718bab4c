"""Bounds against exact sums, published tables and coverage on simulated traffic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import bounds

untimed = settings(deadline=None)

counts = st.integers(0, 60).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


def exact_tail(failures: int, trials: int, rate: Fraction) -> Fraction:
    return sum(
        (math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(failures + 1)), start=Fraction(0)
    )


@untimed
@given(counts, st.integers(1, 999))
def test_the_tail_is_the_exact_sum(count: tuple[int, int], per_mille: int) -> None:
    rate = Fraction(per_mille, 1000)
    expected = exact_tail(*count, rate)
    assert math.exp(bounds.log_binomial_tail(*count, float(rate))) == pytest.approx(float(expected), rel=1e-9)


def test_a_far_tail_keeps_its_digits_in_log_space() -> None:
    assert bounds.log_binomial_tail(0, 1_000_000, 0.01) == pytest.approx(1_000_000 * math.log(0.99), rel=1e-9)
    exact = exact_tail(20, 400, Fraction(1, 2))
    assert bounds.log_binomial_tail(20, 400, 0.5) == pytest.approx(math.log(exact), rel=1e-12)


@pytest.mark.parametrize(("failures", "rate", "log_tail"), [(-1, 0.5, -math.inf), (3, 1.0, -math.inf), (5, 1.0, 0.0)])
def test_the_tail_is_right_at_its_edges(failures: int, rate: float, log_tail: float) -> None:
    assert bounds.log_binomial_tail(failures, 5, rate) == log_tail


@pytest.mark.parametrize(
    ("failures", "trials", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),
        (5, 20, 0.0866, 0.4910),
        (10, 20, 0.2720, 0.7280),
        (1, 100, 0.0003, 0.0545),
        (20, 20, 0.8316, 1.0),
    ],
)
def test_clopper_pearson_agrees_with_published_tables(failures: int, trials: int, low: float, high: float) -> None:
    interval = bounds.clopper_pearson(failures, trials, 0.05)
    assert [interval.low, interval.high] == pytest.approx([low, high], abs=5e-5)


@untimed
@given(counts, st.sampled_from([0.001, 0.05, 0.2]))
def test_the_bound_is_where_the_exact_tail_is_delta(count: tuple[int, int], delta: float) -> None:
    failures, trials = count
    bound = bounds.binomial_upper(failures, trials, delta)
    if failures == trials:
        assert bound == 1
    else:
        assert float(exact_tail(failures, trials, Fraction(bound))) == pytest.approx(delta, rel=1e-6)


def test_no_failures_give_the_closed_form_also_for_a_million_trials() -> None:
    for trials in (59, 10_000, 1_000_000):
        assert bounds.binomial_upper(0, trials, 0.05) == pytest.approx(1 - 0.05 ** (1 / trials), rel=1e-6)


def test_without_trials_nothing_is_known() -> None:
    assert bounds.clopper_pearson(0, 0, 0.05) == bounds.Interval(0.0, 1.0)
    assert bounds.weighted_upper([], [], 0.05) == 1.0
    assert bounds.effective_sample_size([]) == 0.0
    with pytest.raises(ValueError, match="at least one pair"):
        bounds.weighted_rate([], [], 0.05)


@untimed
@given(counts.filter(lambda count: count[1] > 0), st.sampled_from([0.01, 0.3, 1.0]))
def test_equal_probabilities_reduce_to_the_binomial(count: tuple[int, int], probability: float) -> None:
    failures, trials = count
    losses = [1.0] * failures + [0.0] * (trials - failures)
    chances = [probability] * trials
    assert bounds.weighted_upper(losses, chances, 0.05) == pytest.approx(bounds.binomial_upper(failures, trials, 0.05))
    rate = bounds.weighted_rate(losses, chances, 0.05)
    exact = bounds.clopper_pearson(failures, trials, 0.05)
    assert [rate.interval.low, rate.interval.high] == pytest.approx([exact.low, exact.high])
    assert rate.estimate == pytest.approx(failures / trials)
    assert rate.effective_pairs == pytest.approx(trials)


losses_and_chances = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0.01, 0.1, 0.5, 1.0])), min_size=1, max_size=30
).map(lambda rows: ([loss for loss, _ in rows], [chance for _, chance in rows]))


@untimed
@given(losses_and_chances)
def test_the_interval_holds_the_estimate_and_certifying_is_the_bound(sample: tuple[list[float], list[float]]) -> None:
    losses, chances = sample
    rate = bounds.weighted_rate(losses, chances, 0.05)
    assert 0 <= rate.interval.low <= rate.estimate + 1e-9
    assert rate.estimate <= rate.interval.high + 1e-9 <= 1 + 2e-9
    upper = bounds.weighted_upper(losses, chances, 0.05)
    assert bounds.certifies(losses, chances, min(upper + 1e-6, 1.0), 0.05)
    assert upper < 1e-5 or not bounds.certifies(losses, chances, upper - 1e-6, 0.05)


@untimed
@given(losses_and_chances)
def test_a_further_loss_only_raises_the_bound(sample: tuple[list[float], list[float]]) -> None:
    losses, chances = sample
    worse = [1.0, *losses[1:]]
    assert bounds.weighted_upper(worse, chances, 0.05) >= bounds.weighted_upper(losses, chances, 0.05) - 1e-9


def test_a_smaller_possible_probability_only_raises_the_bound() -> None:
    losses, chances = [0.0] * 100, [0.5] * 100
    assert bounds.weighted_upper(losses, chances, 0.05, 0.1) > bounds.weighted_upper(losses, chances, 0.05)
    with pytest.raises(ValueError, match="smallest probability"):
        bounds.weighted_upper(losses, chances, 0.05, 0.9)


def test_estimates_weigh_each_pair_by_its_inverse_probability() -> None:
    losses, chances = [1.0, 0.0], [0.1, 0.5]
    assert bounds.self_normalised(losses, chances) == pytest.approx(10 / 12)
    assert bounds.effective_sample_size(chances) == pytest.approx(144 / 104)


def test_the_bound_covers_the_rate_of_traffic_sampled_unequally() -> None:
    rng = np.random.default_rng(20)
    misses = high = 0
    for _ in range(300):
        hard = rng.random(4000) < 0.2
        losses = (rng.random(4000) < np.where(hard, 0.2, 0.01)).astype(float)
        chances = np.where(hard, 0.5, 0.1)
        seen = rng.random(4000) < chances
        upper = bounds.weighted_upper(losses[seen], chances[seen], 0.1, 0.1)
        misses += upper < 0.2 * 0.2 + 0.8 * 0.01
        high += upper > 0.1
    assert misses <= 300 * 0.1 + 3 * math.sqrt(300 * 0.1 * 0.9)
    assert high == 0


@untimed
@given(st.sampled_from([0.01, 0.05, 0.3]), st.sampled_from([0.0, 0.001, 0.02, 0.2]), st.integers(0, 500))
def test_pairs_needed_are_enough(max_loss: float, rate: float, so_far: int) -> None:
    more = bounds.pairs_needed(max_loss, 0.05, rate, so_far)
    if rate >= max_loss:
        assert more is None
        return
    assert more is not None
    total = bounds.pairs_needed(max_loss, 0.05, rate)
    assert total is not None and more == max(0, total - so_far)
    assert bounds.binomial_upper(math.ceil(rate * total), total, 0.05) <= max_loss + 1e-9


def test_fifty_nine_pairs_without_a_loss_certify_five_percent() -> None:
    assert bounds.pairs_needed(0.05, 0.05, 0.0) == 59
    assert bounds.pairs_needed(0.05, 0.05, 0.0, 60) == 0


def test_a_gap_too_small_to_certify_needs_no_finite_number_of_pairs() -> None:
    assert bounds.pairs_needed(0.05, 0.05, 0.04999999) is None
    assert bounds.pairs_needed(1e-8, 0.05, 0.0) is None


@pytest.mark.parametrize(
    ("losses", "chances", "message"),
    [
        ([0.0], [0.5, 0.5], "do not match"),
        ([0.0], [0.0], "probabilities"),
        ([0.0], [1.5], "probabilities"),
        ([math.nan], [0.5], "losses"),
        ([2.0], [0.5], "losses"),
    ],
)
def test_impossible_samples_are_refused(losses: list[float], chances: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bounds.weighted_upper(losses, chances, 0.05)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="6 failures of 5 trials"):
        bounds.binomial_upper(6, 5, 0.05)
    with pytest.raises(ValueError, match="delta"):
        bounds.clopper_pearson(1, 5, 0.0)
