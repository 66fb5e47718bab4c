"""Advice is valid at its confidence, says nothing without support, and counts money with its sign."""

from __future__ import annotations

import math

import numpy as np
import pytest

from policies.advise import FRONTIER, Advice, Pair, Point, advise

TEACHER_USD, STUDENT_USD = 0.01, 0.001


def pair(score: float | None, harmful: bool, probability: float = 0.1) -> Pair:
    return Pair(score, harmful, probability, TEACHER_USD, STUDENT_USD)


def simulate(rng: np.random.Generator, requests: int, targeted: bool = False) -> list[Pair]:
    """Scores uniform in [-1, 0], P(harmful) = score²; audited at 10%, or low scores at 40% when targeted."""
    scores = rng.uniform(-1, 0, requests)
    harmful = rng.random(requests) < scores**2
    chances = np.where(targeted & (scores < -0.5), 0.4, 0.1)
    seen = rng.random(requests) < chances
    rows = zip(scores[seen].tolist(), harmful[seen].tolist(), chances[seen].tolist(), strict=True)
    return [pair(score, wrong, chance) for score, wrong, chance in rows]


def true_loss(point: Point) -> float:
    """The integral of score² over the scores accepted."""
    if point.threshold is None:
        return point.student_share / 3
    return -(point.threshold**3) / 3


def recommended(advice: Advice) -> Point:
    assert advice.recommended is not None
    return advice.recommended


@pytest.mark.parametrize("targeted", [False, True])
def test_the_realised_loss_exceeds_what_was_certified_no_more_often_than_said(targeted: bool) -> None:
    rng = np.random.default_rng(11)
    runs, delta = 60 if targeted else 200, 0.1
    broken = split_broken = 0
    shares = []
    for _ in range(runs):
        advice = advise(simulate(rng, 4000, targeted), 1000, max_loss=0.05, confidence=1 - delta)
        point = recommended(advice)
        assert point.kind == "cascade" and point.loss_upper_bound <= 0.05
        broken += true_loss(point) > point.loss_upper_bound
        assert advice.split is not None
        split_broken += true_loss(advice.split) > advice.split.loss_upper_bound
        shares.append(point.student_share)
    allowed = runs * delta + 3 * math.sqrt(runs * delta * (1 - delta))
    assert broken <= allowed and split_broken <= allowed
    best = 0.15 ** (1 / 3)  # the share at which the true loss is 5%
    assert 0.75 * best < np.mean(shares) < best


def test_the_bound_of_a_student_that_answers_everything_is_its_own_and_valid() -> None:
    rng = np.random.default_rng(12)
    broken = 0
    for _ in range(200):
        pairs = [pair(float(score), chance < 0.02) for score, chance in rng.random((400, 2))]
        point = recommended(advise(pairs, 1000, confidence=0.9))
        broken += point.loss_upper_bound < 0.02 and point.student_share == 1
    assert broken <= 200 * 0.1 + 3 * math.sqrt(200 * 0.09)


def test_a_larger_loss_never_certifies_a_smaller_share() -> None:
    advice = advise(simulate(np.random.default_rng(1), 20_000), 1000)
    assert tuple(row.max_loss for row in advice.frontier) == FRONTIER
    points = [row.point for row in advice.frontier]
    shares = [point.student_share for point in points if point is not None]
    thresholds = [point.threshold for point in points if point is not None and point.threshold is not None]
    assert len(shares) == len(thresholds) == len(FRONTIER)
    assert shares == sorted(shares) and thresholds == sorted(thresholds, reverse=True)
    assert advice.frontier[2].point == advice.recommended


def test_a_student_without_a_loss_answers_everything_and_saves_what_it_costs_less() -> None:
    advice = advise([pair(-0.1 * index, False) for index in range(100)], 1000)
    point = recommended(advice)
    assert point.student_share == 1 and point.threshold == pytest.approx(-9.9)
    assert point.loss_estimate == 0 and point.loss_upper_bound == pytest.approx(1 - 0.05 ** (1 / 100))
    assert point.savings_usd_per_day == pytest.approx(1000 * (TEACHER_USD - STUDENT_USD))
    assert advice.pairs_needed == 0 and advice.reason == ""
    assert [advice.pairs_used, advice.effective_pairs] == pytest.approx([100, 100])


@pytest.mark.parametrize("pairs", [0, 1, 20, 58])
def test_too_few_pairs_give_no_number_but_how_many_more_are_needed(pairs: int) -> None:
    advice = advise([pair(-0.1, False)] * pairs, 1000)
    assert advice.recommended is None and advice.split is None
    assert advice.pairs_needed == 59 - pairs
    assert advice.reason == f"{pairs} pairs are too few to certify a loss of at most 5.0%"


def test_the_number_of_pairs_said_to_be_needed_is_enough() -> None:
    assert advise([pair(-0.1, False)] * 59, 1000).recommended is not None


def test_a_student_that_is_always_harmful_is_not_recommended_by_score() -> None:
    advice = advise([pair(-1.0, True) for _ in range(500)], 1000)
    assert advice.recommended is None and advice.pairs_needed is None
    assert "lose more than 5.0%" in advice.reason
    assert advice.split is not None and advice.split.student_share <= 0.05 / 0.99


def test_losses_among_the_best_scores_ask_for_more_pairs() -> None:
    advice = advise([pair(0.0, index < 4) for index in range(100)], 1000)
    assert advice.recommended is None
    assert advice.pairs_needed is not None and advice.pairs_needed > 1000
    assert "uncertified" in advice.reason


def test_without_scores_the_split_is_recommended() -> None:
    advice = advise([pair(None, index < 20) for index in range(200)], 1000)
    point = recommended(advice)
    assert point == advice.split and point.kind == "split" and point.threshold is None
    assert 0 < point.student_share < 0.5
    assert point.loss_upper_bound <= 0.05
    assert point.savings_usd_per_day == pytest.approx(1000 * point.student_share * (TEACHER_USD - STUDENT_USD))


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
def test_an_answer_without_a_score_is_escalated(missing: float | None) -> None:
    point = recommended(advise([pair(missing, True)] * 90 + [pair(-0.1, False)] * 110, 1000))
    assert point.kind == "cascade" and point.loss_estimate == 0
    assert point.student_share == pytest.approx(0.55)
    assert point.student_share_interval.low < 0.55 < point.student_share_interval.high


def test_a_cascade_that_escalates_nearly_everything_costs_money() -> None:
    pairs = [Pair(0.0, False, 0.1, TEACHER_USD, 0.9 * TEACHER_USD)] * 100
    pairs += [Pair(-1.0, True, 0.1, TEACHER_USD, 0.9 * TEACHER_USD)] * 900
    point = recommended(advise(pairs, 1000))
    assert point.savings_usd_per_day < 0
    assert point.savings_interval_usd_per_day.low < point.savings_usd_per_day < point.savings_interval_usd_per_day.high


def test_unequal_probabilities_are_weighed() -> None:
    rare = [pair(0.0, False, 0.1)] * 400
    often = [pair(-1.0, True, 0.4)] * 400
    point = recommended(advise(rare + often, 1000))
    assert point.student_share == pytest.approx(0.8)
    assert advise(rare + often, 1000, smallest_probability=0.01).recommended is None


@pytest.mark.parametrize(("max_loss", "confidence", "requests"), [(0, 0.95, 1), (0.05, 1, 1), (0.05, 0.95, -1)])
def test_figures_out_of_range_are_refused(max_loss: float, confidence: float, requests: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        advise([], requests, max_loss, confidence)
