"""The statistics of the loss map: against known figures, direct sums, and traffic whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import comb, exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.lossmap import (
    Lost,
    Sample,
    benjamini_yekutieli,
    effective_pairs,
    log_fisher_greater,
    map_slices,
    mean,
    next_student,
    pairs_to_name,
    rate,
)
from policies.slices import Slice

ROUTES = 200
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def sample_of(harmful: Sequence[float], probability: Sequence[float] | None = None) -> Sample:
    """Every request served by the teacher, for a dollar more than the student costs."""
    count = len(harmful)
    return Sample(
        harmful=np.array(harmful, dtype=np.float64),
        by_student=np.zeros(count),
        probability=np.array(probability if probability is not None else np.ones(count), dtype=np.float64),
        teacher_usd=np.ones(count),
        moved_usd=np.ones(count),
    )


def named(sample: Sample, slices: Sequence[Slice]) -> set[str]:
    return {figures.name for figures in map_slices(sample, slices, 1000.0) if figures.named}


def test_fisher_s_lady_tasting_tea() -> None:
    assert exp(log_fisher_greater(4, 4, 0, 4)) == pytest.approx(1 / 70)
    assert exp(log_fisher_greater(3, 4, 1, 4)) == pytest.approx(17 / 70)


@given(st.integers(0, 30), st.integers(0, 30), st.data())
def test_fisher_is_the_tail_of_all_ways_to_deal(trials: int, others: int, data: st.DataObject) -> None:
    hits, other_hits = data.draw(st.integers(0, trials)), data.draw(st.integers(0, others))
    drawn = hits + other_hits
    ways = sum(comb(trials, count) * comb(others, drawn - count) for count in range(hits, min(drawn, trials) + 1))
    assert exp(log_fisher_greater(hits, trials, other_hits, others)) == pytest.approx(
        float(Fraction(ways, comb(trials + others, drawn))), rel=1e-9
    )


def test_benjamini_and_yekutieli_adjust_by_place_and_harmonic_number() -> None:
    harmonic = 1 + 1 / 2 + 1 / 3
    adjusted = benjamini_yekutieli([0.04, 0.001, 0.02])
    assert adjusted == pytest.approx([0.04 * harmonic, 0.003 * harmonic, 0.02 * 3 / 2 * harmonic])


@given(P_VALUES)
def test_adjusting_never_lowers_a_p_value_nor_turns_two_around(p_values: list[float]) -> None:
    adjusted = benjamini_yekutieli(p_values)
    assert all(p <= q <= 1 or q == 1 for p, q in zip(p_values, adjusted, strict=True))
    ordered = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert ordered == sorted(ordered)


def test_with_equal_weights_a_rate_has_wilson_s_interval() -> None:
    found = rate(np.repeat([1.0, 0.0], [10, 90]), np.full(100, 7.0))
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.05522914, 0.17436566))


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 1)), min_size=1, max_size=40))
def test_a_rate_lies_in_its_interval_and_the_interval_in_zero_to_one(pairs: list[tuple[bool, float]]) -> None:
    values, weights = np.array([float(harm) for harm, _ in pairs]), np.array([1 / p for _, p in pairs])
    found = rate(values, weights)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert 0 < effective_pairs(values, weights) <= len(pairs) * (1 + 1e-9)


def test_a_loss_on_one_heavy_pair_counts_as_the_one_observation_that_it_is() -> None:
    values = np.array([1.0] + [0.0] * 99)
    assert effective_pairs(values, np.array([20.0] + [2.0] * 99)) < 15
    assert effective_pairs(values, np.ones(100)) == pytest.approx(100)


@given(st.floats(0.01, 1), st.integers(1, 60))
def test_where_all_are_harmful_rounding_changes_nothing(probability: float, count: int) -> None:
    weights = np.linspace(1, 1 / probability, count)
    found = rate(np.ones(count), weights)
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.9 <= effective_pairs(np.ones(count), weights) <= count * (1 + 1e-9)


def test_rates_are_weighted_by_what_each_pair_stands_for() -> None:
    """Hard traffic is compared at 50%, easy traffic at 5%: the plain mean would say 1/2."""
    sample = sample_of([1.0] * 50 + [0.0] * 50, [0.5] * 50 + [0.05] * 50)
    hard = Slice("hard", np.arange(100) < 50)
    (figures,) = map_slices(sample, [hard], 1100.0)
    assert figures.share.value == pytest.approx(100 / 1100)
    assert figures.requests_per_day == pytest.approx(100)
    assert figures.lost_usd_per_day == figures.at_stake_usd_per_day.value == pytest.approx(100)
    assert (figures.loss.value, figures.rest_loss, figures.pairs) == (1.0, 0.0, 50)
    assert figures.named


def test_served_and_potential_loss_teacher_share_and_money() -> None:
    sample = Sample(
        harmful=np.array([1.0, 1.0, 0.0, 0.0, 0.0]),
        by_student=np.array([1.0, 0.0, 1.0, 0.0, 0.0]),
        probability=np.ones(5),
        teacher_usd=np.array([4.0, 4.0, 4.0, 8.0, 1.0]),
        moved_usd=np.array([3.0, 3.0, 3.0, 6.0, 1.0]),
    )
    (figures,) = map_slices(sample, [Slice("a", np.arange(5) < 4)], 10.0)
    assert (figures.loss.value, figures.served_loss.value, figures.teacher_share) == (0.5, 0.25, 0.5)
    assert figures.teacher_usd == 5.0
    assert figures.lost_usd_per_day == pytest.approx((4 + 4) / 5 * 10)
    assert figures.at_stake_usd_per_day.value == pytest.approx((3 + 6) / 5 * 10)


def test_a_slice_behind_a_worse_one_is_named_in_the_next_round() -> None:
    """Beside a third of the traffic that loses everything, 35% is no more than the rest; beside what is left, it is."""
    harmful = [1.0] * 100 + [1.0] * 35 + [0.0] * 65 + [0.0] * 100
    places = np.arange(300)
    slices = [Slice("all", places < 100), Slice("some", (places >= 100) & (places < 200)), Slice("none", places >= 200)]
    rounds = {figures.name: figures.round for figures in map_slices(sample_of(harmful), slices, 1.0) if figures.named}
    assert rounds == {"all": 1, "some": 2}


def test_a_broad_slice_does_not_hide_a_clearer_one_within_it() -> None:
    """Named at first are what loses everything and, for that part of it, the broad slice."""
    harmful = [1.0] * 60 + [1.0] * 30 + [0.0] * 30 + [0.0] * 60 + [1.0] * 60 + [0.0] * 160
    places = np.arange(400)
    slices = [
        Slice("all", places < 60),
        Slice("some", (places >= 60) & (places < 120)),
        Slice("broad", places < 120),
        Slice("other", (places >= 180) & (places < 240)),
    ]
    rounds = {figures.name: figures.round for figures in map_slices(sample_of(harmful), slices, 1.0) if figures.named}
    assert rounds == {"all": 1, "broad": 1, "other": 1, "some": 2}


def test_a_field_is_named_by_its_own_losses() -> None:
    harmful, inside = np.array([1.0] * 20 + [0.0] * 80), np.arange(100) < 20
    name, age = inside & (np.arange(100) < 2), inside & (np.arange(100) >= 2)
    slices = [Slice("name", inside, lost=name), Slice("age", inside, lost=age), Slice("whole", inside)]
    figures = {each.name: each for each in map_slices(sample_of(list(harmful)), slices, 1.0)}
    assert [figures[name].loss.value for name in ("name", "age", "whole")] == [0.1, 0.9, 1.0]
    assert figures["age"].named and figures["whole"].named
    assert [step.name for step in next_student(sample_of(list(harmful)), slices, list(figures.values()), 1.0)] == [
        "whole"
    ]


def test_the_next_student_counts_every_request_once() -> None:
    places = np.arange(100)
    harmful = (places < 40).astype(np.float64)
    slices = [
        Slice("left", places < 25),
        Slice("right", (places >= 20) & (places < 40)),
        Slice("both", (places >= 5) & (places < 40)),
        Slice("unnamed", places < 60),
    ]
    figures = [each for each in map_slices(sample_of(list(harmful)), slices, 50.0) if each.name != "unnamed"]
    steps = next_student(sample_of(list(harmful)), slices, figures, 50.0, [Lost("tools", 1.0, 0.9)])
    assert [step.name for step in steps] == ["both", "tools"]
    assert steps[-1].total_usd_per_day.value == pytest.approx(35 / 100 * 50 + 0.9)
    assert sum(step.adds_usd_per_day for step in steps) == pytest.approx(steps[-1].total_usd_per_day.value)
    assert steps[-1].loss_share == pytest.approx((35 / 100 * 50 + 1) / (40 / 100 * 50 + 1))
    assert steps[-1].total_usd_per_day.low < steps[-1].total_usd_per_day.value < steps[-1].total_usd_per_day.high


def test_the_interval_of_a_mean_is_the_linearised_one_with_student_s_t() -> None:
    found = mean(np.arange(1.0, 22.0), np.ones(21), 10.0)
    half = 2.085963 * np.std(np.arange(21)) / np.sqrt(21) * 10
    assert (found.value, found.low, found.high) == pytest.approx((110, 110 - half, 110 + half), rel=1e-3)


@pytest.mark.parametrize("harmful", [[], [1.0], [0.0] * 9])
def test_without_losses_or_pairs_nothing_is_named(harmful: list[float]) -> None:
    slices = [Slice("a", np.arange(len(harmful)) < 4), Slice("none", np.zeros(len(harmful), dtype=np.bool_))]
    assert not named(sample_of(harmful), slices)


def test_as_many_pairs_as_it_says_name_the_slice_mostly() -> None:
    count = pairs_to_name(0.05, 0.4, 0.2, 20)
    rng = np.random.default_rng(1)
    inside = np.arange(count) < 0.05 * count
    decoys = [Slice(f"d{number}", rng.random(count) < 0.3) for number in range(19)]
    found = [
        "a" in named(sample_of(list(rng.random(count) < np.where(inside, 0.4, 0.2))), [Slice("a", inside), *decoys])
        for _ in range(60)
    ]
    assert 0.5 <= np.mean(found) <= 0.98


class Traffic:
    """Requests in overlapping slices, compared with unequal probabilities; `excess` is what a slice loses more.

    With `telling`, requests that will turn out harmful are compared more often, as by confidence: the probabilities
    then know of the losses, and the rates must not be taken in by that.
    """

    def __init__(self, seed: int, excess: dict[int, float], telling: bool) -> None:
        rng = np.random.default_rng(seed)
        shares = rng.uniform(0.03, 0.5, 16)
        shares[[0, 2]] = 0.15
        inside = rng.random((16, 6000)) < shares[:, None]
        inside[8:] = inside[:8] & (rng.random((8, 6000)) < 0.6)
        rates = np.full(6000, 0.15)
        for number, more in excess.items():
            rates = np.where(inside[number], 0.15 + more, rates)
        harmful = rng.random(6000) < rates
        probability = np.where(inside[1], 0.2, 0.04)
        if telling:
            probability = np.where(harmful ^ (rng.random(6000) < 0.2), 0.3, 0.05)
        drawn = rng.random(6000) < probability
        self.sample = sample_of(list(harmful[drawn].astype(float)), list(probability[drawn]))
        self.slices = [Slice(str(number), inside[number][drawn]) for number in range(16)]


@pytest.mark.parametrize("telling", [False, True])
def test_where_no_slice_differs_seldom_any_is_named(telling: bool) -> None:
    """Without a true discovery every one is false: the rate is how often there is any. 5% plus three deviations."""
    false = [bool(named(traffic.sample, traffic.slices)) for traffic in _routes({}, telling)]
    assert np.mean(false) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / ROUTES)


def test_planted_slices_are_found_and_few_others_with_them() -> None:
    """Slice 0 loses 45 points more, slice 2 25. Theirs and their parts (8, 10) are true; the others are false, though
    they share requests with them, by chance, in the share that the rest does, too."""
    found = [named(traffic.sample, traffic.slices) for traffic in _routes({0: 0.45, 2: 0.25}, telling=False)]
    assert np.mean(["0" in each for each in found]) >= 0.9
    false = [len(each - {"0", "2", "8", "10"}) / max(len(each), 1) for each in found]
    assert np.mean(false) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / ROUTES)


def _routes(excess: dict[int, float], telling: bool) -> list[Traffic]:
    return [Traffic(seed, excess, telling) for seed in range(ROUTES)]
