"""The ratio estimator: exact where it can be, honest where it cannot, and its interval covers."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.evidence.records import ArmAnswer
from router.report.ratio import FEWEST_PAIRS, ratio, ratios, t95
from tests.router.report.made import START, audited

DRAW = st.tuples(st.floats(1, 2), st.floats(1000, 1500), st.floats(0, 1e6))  # worth more than half as many even ones


def test_pairs_that_agree_on_the_ratio_leave_no_doubt() -> None:
    made = ratios(audited(number, START, 308_000) for number in range(FEWEST_PAIRS))["auto"]
    assert made.value == pytest.approx(1.1)
    assert made.margin == pytest.approx(0, abs=1e-12)


def test_too_few_pairs_correct_nothing() -> None:
    made = ratios(audited(number, START) for number in range(FEWEST_PAIRS - 1))["auto"]
    assert (made.pairs, made.value, made.margin) == (FEWEST_PAIRS - 1, None, None)
    assert made.even_pairs == pytest.approx(FEWEST_PAIRS - 1)


def test_one_huge_pair_is_worth_no_more_than_one() -> None:
    made = ratio([(1.0, 1.0, 1.0)] * 1000 + [(1.0, 1e6, 1e6)])
    assert (made.pairs, made.value) == (1001, None)
    assert made.even_pairs == pytest.approx(1, abs=0.01)


def test_pairs_that_say_nothing_of_the_ratio_are_left_out() -> None:
    failed = ArmAnswer(model="teacher", error="status 500")
    guessed = ArmAnswer(model="teacher", cost_nano_usd=1, estimated=True)
    pairs = [
        audited(1, START).model_copy(update={"teacher": failed}),
        audited(2, START).model_copy(update={"teacher": guessed}),
        audited(3, START).model_copy(update={"served": "teacher"}),
    ]
    assert ratios(pairs) == {}


def test_a_pair_counts_as_often_as_it_was_unlikely() -> None:
    often = [audited(number, START, 280_000, 1.0) for number in range(100)]
    seldom = [audited(number, START, 560_000, 0.5) for number in range(100, 200)]
    assert ratios(often + seldom)["auto"].value == pytest.approx((100 * 1 + 200 * 2) / 300)


@given(st.lists(DRAW, min_size=2 * FEWEST_PAIRS, max_size=100), st.floats(0.1, 10))
def test_the_unit_of_money_and_of_weights_does_not_matter(draws: list[tuple[float, float, float]], by: float) -> None:
    one, other = ratio(draws), ratio([(w * by, x * by, y * by) for w, x, y in draws])
    assert one.value is not None and other.value is not None
    assert other.value == pytest.approx(one.value)
    assert other.margin == pytest.approx(one.margin, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("freedom, quantile", [(29, 2.0452), (60, 2.0003), (1000, 1.9623)])
def test_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert t95(freedom) == pytest.approx(quantile, abs=1e-4)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Skewed lengths and answers, audits at different rates; 1,000 samples of 150 pairs."""
    rng = random.Random(20261121)
    covered = samples = 0
    for _ in range(1000):
        draws = []
        for _ in range(150):
            x = rng.lognormvariate(0, 1)
            weight = rng.choice([1.0, 10.0])
            draws.append((weight, x, x * rng.lognormvariate(math.log(1.2) - 0.125, 0.5)))
        found = ratio(draws)
        if found.value is not None and found.margin is not None:
            samples += 1
            covered += abs(found.value - 1.2) <= found.margin
    assert samples > 500
    assert 0.9 <= covered / samples <= 0.98, covered / samples
