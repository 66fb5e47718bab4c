from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.certify.bins import EDGES, NOVELTY_BINS, SCORE_BINS, novelty_bin, score_bin


@given(st.floats(0, 1), st.integers(0, SCORE_BINS - 1))
def test_a_score_is_below_an_edge_exactly_where_its_bin_is(loss: float, edge: int) -> None:
    assert (loss < EDGES[edge]) == (score_bin(loss) < edge)


def test_an_edge_belongs_to_the_bin_above_it() -> None:
    assert [score_bin(edge) for edge in EDGES[:-1].tolist()] == list(range(SCORE_BINS))


@given(st.floats(0, 1))
def test_a_novelty_lies_in_its_bin(novelty: float) -> None:
    at = novelty_bin(novelty)
    assert at <= novelty * NOVELTY_BINS
    assert novelty * NOVELTY_BINS < at + 1 or at == NOVELTY_BINS - 1


@pytest.mark.parametrize(("wild", "at"), [(math.nan, -1), (math.inf, -1), (2.0, -1), (-1.0, 0)])
def test_what_is_out_of_range_is_counted_at_the_end(wild: float, at: int) -> None:
    assert score_bin(wild) == at % SCORE_BINS
    if math.isfinite(wild) or math.isnan(wild):
        assert novelty_bin(wild) == at % NOVELTY_BINS
