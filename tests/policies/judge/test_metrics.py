"""Curves and figures against independent reckonings: RouteLLM's own, and brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.bounds import Floats
from policies.judge.metrics import (
    Ranking,
    Undefined,
    apgr,
    curve,
    interval,
    paired_apgr,
    places_within,
    resamples,
)

untimed = settings(deadline=None)
scores = st.integers(0, 4).map(lambda quarter: quarter / 4)
rows = st.lists(st.tuples(st.integers(0, 3), scores, scores), min_size=1, max_size=6)


def columns(table: list[tuple[int, float, float]]) -> tuple[Floats, Floats, Floats]:
    worth, teacher, student = np.array(table, dtype=np.float64).T
    return worth, teacher, student


def routellm(worth: Floats, teacher: Floats, student: Floats) -> float:
    """APGR as routellm/evals/evaluate.py reckons it, with every score as a threshold."""
    shares, accuracy = [0.0], [float(student.mean())]
    for threshold in sorted(set(worth.tolist()), reverse=True):
        to_teacher = worth >= threshold
        shares.append(float(to_teacher.mean()))
        accuracy.append(float(np.where(to_teacher, teacher, student).mean()))
    area = sum(
        (x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(zip(shares, accuracy, strict=True))
    )
    return float((area - student.mean()) / (teacher.mean() - student.mean()))


def test_apgr_is_that_of_routellm() -> None:
    rng = np.random.default_rng(1)
    teacher, student = rng.random(400) < 0.8, rng.random(400) < 0.5
    worth = rng.integers(0, 50, 400) + 20.0 * (teacher & ~student)
    ours = apgr(worth, teacher.astype(float), student.astype(float))
    assert ours == pytest.approx(routellm(worth, teacher.astype(float), student.astype(float)))


@untimed
@given(rows)
def test_the_curve_is_the_mean_over_all_orders_of_ties(table: list[tuple[int, float, float]]) -> None:
    worth, teacher, student = columns(table)
    orders = [
        order
        for order in itertools.permutations(range(len(table)))
        if all(worth[first] >= worth[then] for first, then in itertools.pairwise(order))
    ]
    for sent in range(len(table) + 1):
        means = [
            np.mean([teacher[row] if place < sent else student[row] for place, row in enumerate(order)])
            for order in orders
        ]
        found = curve(worth, teacher, student).at(np.array([sent / len(table)]))[0]
        assert found == pytest.approx(np.mean(means))


@untimed
@given(rows)
def test_the_order_of_rows_and_a_rising_change_of_scale_change_nothing(
    table: list[tuple[int, float, float]],
) -> None:
    worth, teacher, student = columns(table)
    mixed = np.random.default_rng(len(table)).permutation(len(table))
    before = curve(worth, teacher, student)
    after = curve(np.exp(worth[mixed]), teacher[mixed], student[mixed])
    assert after.shares == pytest.approx(before.shares)
    assert after.scores == pytest.approx(before.scores)


@untimed
@given(rows, st.data())
def test_a_weight_is_as_many_copies(table: list[tuple[int, float, float]], data: st.DataObject) -> None:
    copies = data.draw(st.lists(st.integers(1, 3), min_size=len(table), max_size=len(table)))
    weighted = curve(*columns(table), weights=np.array(copies, dtype=float))
    copied = curve(*columns([row for row, times in zip(table, copies, strict=True) for _ in range(times)]))
    assert weighted.shares == pytest.approx(copied.shares)
    assert weighted.scores == pytest.approx(copied.scores)


def test_one_tie_is_a_straight_line_and_has_half_the_area() -> None:
    found = curve(np.zeros(4), np.array([1.0, 1, 1, 0]), np.array([0.0, 1, 0, 0]))
    assert found.apgr == pytest.approx(0.5)
    assert found.cpt(0.5) == pytest.approx(0.5)


def test_the_oracle_beats_the_teacher_alone_and_the_reverse_order_mirrors_it() -> None:
    teacher, student = np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 1, 1])
    gain = teacher - student
    assert curve(gain, teacher, student).scores.max() == 1.0
    assert apgr(gain, teacher, student) + apgr(-gain, teacher, student) == pytest.approx(1)


def test_cpt_is_the_first_share_that_recovers_so_much_even_where_the_curve_falls_again() -> None:
    teacher, student = np.array([1.0, 0, 1, 1]), np.array([0.0, 1, 1, 0])
    found = curve(np.array([4.0, 3, 2, 1]), teacher, student)
    assert found.scores == pytest.approx([0.5, 0.75, 0.5, 0.5, 0.75])
    assert found.cpt(0.5) == pytest.approx(0.125)
    assert found.cpt(1) == pytest.approx(0.25)
    assert found.share_for(0.5) == 0.0


def test_without_a_gap_the_figures_of_the_gap_are_undefined_and_the_others_are_not() -> None:
    found = curve(np.array([2.0, 1]), np.array([1.0, 0]), np.array([0.0, 1]))
    assert found.auc == pytest.approx(0.75)
    figures: list[Callable[[], float]] = [lambda: found.apgr, lambda: found.cpt(0.5)]
    for figure in figures:
        with pytest.raises(Undefined, match=r"0\.5000 is not above the student's 0\.5000"):
            figure()
    with pytest.raises(Undefined, match=r"no share of the teacher reaches a mean score of 1\.5000"):
        found.share_for(1.5)


@pytest.mark.parametrize(
    ("worth", "problem"),
    [([], "no row"), ([1.0, 2.0], "shapes differ"), ([float("nan")], "finite"), ([float("inf")], "finite")],
)
def test_worths_that_make_no_order_are_refused(worth: list[float], problem: str) -> None:
    count = 0 if not worth else 1
    with pytest.raises(ValueError, match=problem):
        Ranking(np.array(worth), np.ones(count), np.zeros(count))


def test_places_within_forget_what_tells_sets_apart() -> None:
    worth, sets = np.array([10.0, 30, 20, 1, 1]), ["a", "a", "a", "b", "b"]
    assert places_within(worth, sets) == pytest.approx([1 / 6, 5 / 6, 3 / 6, 1 / 2, 1 / 2])


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = interval(resamples(lambda weights: np.asarray(np.average(values, weights=weights)), 400, 2000, 1))
    assert found is not None
    error = float(values.std()) / 20
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_rows_of_a_group_are_drawn_together() -> None:
    groups = np.array([0, 0, 1, 1, 2])
    drawn = resamples(lambda weights: weights, 5, 50, 0, groups)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 2] == drawn[:, 3]).all()
    assert len(np.unique(drawn[:, [0, 2, 4]].sum(axis=1))) == 1


def test_an_interval_is_not_told_where_resamples_are_often_undefined() -> None:
    assert interval(np.array([0.5] * 94 + [np.nan] * 6)) is None
    assert interval(np.array([0.5] * 96 + [np.nan] * 4)) is not None


def test_a_paired_comparison_sees_what_two_intervals_hide() -> None:
    rng = np.random.default_rng(3)
    teacher, student = (rng.random(300) < 0.8).astype(float), (rng.random(300) < 0.5).astype(float)
    ours = teacher - student + rng.normal(scale=2, size=(3, 300))
    theirs = ours - 0.5 * (teacher - student)
    gain, between = paired_apgr(ours, theirs, teacher, student, draws=200)
    assert between is not None
    assert 0 < between.low < gain < between.high
    same, none = paired_apgr(ours, ours, teacher, student, draws=50)
    assert none is not None
    assert (same, none.low, none.high) == (0, 0, 0)
