from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.certify.bins import ABOVE_ALL, CENTRES, SCORE_BINS
from policies.certify.curve import Curve


def taught(harm: float, size: int = 4_000, seed: int = 1) -> Curve:
    rng = np.random.default_rng(seed)
    bins = rng.integers(0, SCORE_BINS // 2, size)
    curve = Curve()
    curve.count(np.bincount(bins, minlength=SCORE_BINS).astype(float), 1e9)
    losses = (rng.random(size) < harm * CENTRES[bins]).astype(float)
    curve.audited(CENTRES[bins], losses, np.full(size, 10.0))
    return curve


@pytest.mark.parametrize("harm", [0.5, 1.0])
def test_the_line_is_that_of_the_audits(harm: float) -> None:
    line = taught(harm).line()
    assert line.at(np.array([0.05, 0.2])) == pytest.approx(harm * np.array([0.05, 0.2]), abs=0.02)


@given(st.floats(1e-4, 0.2), st.floats(0.1, 1.5))
def test_the_cuts_enclose_what_is_allowed(allowed: float, harm: float) -> None:
    under, over = taught(harm, 400).cuts(allowed)
    assert under.loss <= allowed
    assert over.loss > allowed or under == over
    assert over.threshold >= under.threshold


def test_everything_is_served_where_all_of_it_is_allowed() -> None:
    under, over = taught(0.1).cuts(0.5)
    assert under == over
    assert under.threshold == ABOVE_ALL


def test_nothing_is_served_before_a_request_was_seen() -> None:
    assert Curve().cuts(0.02)[1].threshold == 0.0


def test_old_audits_fade() -> None:
    curve = taught(1.0)
    curve.count(np.bincount([70], [30_000], minlength=SCORE_BINS).astype(float), 3_000.0)
    rng = np.random.default_rng(2)
    curve.audited(CENTRES[rng.integers(0, 75, 300)], np.zeros(300), np.full(300, 10.0))
    assert curve.line().loss < 0.002


def test_a_score_that_ranks_the_wrong_way_is_taken_for_none() -> None:
    curve = Curve()
    scores = np.repeat([0.05, 0.2], 2_000)
    curve.audited(scores, np.repeat([1.0, 0.0], 2_000), np.ones(4_000))
    assert curve.line().slope == 0.0
