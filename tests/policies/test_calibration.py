"""The calibrated curve is monotone, bounded, careful with few pairs and right with many."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.calibration import Calibration, fit

untimed = settings(deadline=None)

finite = st.floats(-1e6, 1e6)
judged = st.lists(st.tuples(finite, st.booleans(), st.floats(0.01, 100)), min_size=1, max_size=80)


def fitted(rows: list[tuple[float, bool, float]]) -> Calibration:
    return fit([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


@untimed
@given(judged, st.lists(st.floats(allow_nan=False), max_size=20))
def test_the_risk_never_rises_with_the_score_and_is_a_probability(
    rows: list[tuple[float, bool, float]], scores: list[float]
) -> None:
    curve = fitted(rows)
    risks = [curve.p_wrong(score) for score in sorted([*scores, *curve.scores])]
    assert all(0 < risk < 1 for risk in risks)
    assert all(earlier >= later for earlier, later in itertools.pairwise(risks))


@untimed
@given(judged, st.sampled_from([0.001, 7.0, 1e6]))
def test_the_scale_of_the_weights_does_not_matter(rows: list[tuple[float, bool, float]], scale: float) -> None:
    curve, scaled = fitted(rows), fitted([(score, wrong, weight * scale) for score, wrong, weight in rows])
    for score, _, _ in rows:
        assert scaled.p_wrong(score) == pytest.approx(curve.p_wrong(score), abs=1e-6)


def test_between_breakpoints_the_risk_is_interpolated_and_outside_it_is_flat() -> None:
    curve = Calibration((-1.0, 0.0), (0.8, 0.2))
    assert curve.p_wrong(-0.5) == pytest.approx(0.5)
    assert [curve.p_wrong(score) for score in (-math.inf, -1.0, 0.0, math.inf)] == [0.8, 0.8, 0.2, 0.2]


def test_a_score_that_is_no_number_is_the_worst_score() -> None:
    assert Calibration((-1.0, 0.0), (0.8, 0.2)).p_wrong(math.nan) == 0.8


@pytest.mark.parametrize("wrong", [True, False])
def test_a_few_pairs_are_never_read_as_certainty(wrong: bool) -> None:
    risk = fit([-0.1] * 3, [wrong] * 3).p_wrong(-0.1)
    assert 0.05 < risk < 0.95
    assert (risk > 0.5) == wrong


@pytest.mark.parametrize("pairs", [60, 500, 5000])
def test_simulated_errors_are_calibrated(pairs: int) -> None:
    rng = np.random.default_rng(pairs)

    def truth(scores: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.asarray(1 / (1 + np.exp(12 * (scores + 0.4))))

    gaps = []
    for _ in range(20):
        scores = rng.uniform(-1, 0, pairs)
        curve = fit(scores.tolist(), (rng.random(pairs) < truth(scores)).tolist())
        grid = np.linspace(-0.95, -0.05, 60)
        gaps.append(np.mean([curve.p_wrong(float(score)) for score in grid] - truth(grid)))
        gaps.append(np.abs([curve.p_wrong(float(score)) for score in grid] - truth(grid)).mean())
    assert abs(np.mean(gaps[0::2])) < 0.03
    assert np.mean(gaps[1::2]) < 2.5 / pairs**0.5 + 0.01


def test_weights_restore_the_risk_of_traffic_sampled_unequally() -> None:
    rng = np.random.default_rng(5)
    wrong = rng.random(20_000) < 0.2
    chances = np.where(wrong, 0.5, 0.1)
    seen = rng.random(20_000) < chances
    curve = fit(np.zeros(seen.sum()).tolist(), wrong[seen].tolist(), (1 / chances[seen]).tolist())
    assert curve.p_wrong(0.0) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(
    ("scores", "wrong", "weights", "message"),
    [
        ([], [], None, "at least one pair"),
        ([1.0], [], None, "a label"),
        ([math.nan], [True], None, "finite"),
        ([1.0], [True], [0.0], "positive"),
    ],
)
def test_pairs_that_say_nothing_are_refused(
    scores: list[float], wrong: list[bool], weights: list[float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(scores, wrong, weights)


@pytest.mark.parametrize(
    ("scores", "wrong", "message"),
    [
        ((), (), "at least one"),
        ((0.0, 0.0), (0.5, 0.4), "scores must rise"),
        ((0.0, 1.0), (0.4, 0.5), "must not rise"),
        ((0.0,), (1.5,), r"in \[0, 1\]"),
        ((0.0, 1.0), (math.nan, 0.5), "must not rise"),
    ],
)
def test_a_curve_that_is_none_is_refused(scores: tuple[float, ...], wrong: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Calibration(scores, wrong)
