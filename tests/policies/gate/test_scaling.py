"""Scaling: finite whatever comes in, told about gaps, deaf to what never varied."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies.gate import scaling
from policies.gate.scaling import FARTHEST, Scaling

NAN = float("nan")
VALUES = st.one_of(st.just(NAN), st.floats(-1e9, 1e9))


@given(arrays(np.float64, (6, 3), elements=VALUES), arrays(np.float64, (4, 3), elements=VALUES))
def test_no_column_is_infinite_missing_or_far_away(seen: np.ndarray, unseen: np.ndarray) -> None:
    scaled = scaling.fit(seen)(unseen)
    assert np.isfinite(scaled).all()
    assert (np.abs(scaled) <= FARTHEST).all()


def test_a_gap_is_told_apart_from_the_middle() -> None:
    fitted = scaling.fit(np.array([[0.0], [1.0], [2.0], [NAN]]))
    middle, gap = fitted(np.array([[1.0], [NAN]]))
    assert middle[0] == gap[0]
    assert middle[1] != gap[1]


def test_a_column_that_never_varied_says_nothing_later() -> None:
    assert (scaling.fit(np.ones((5, 1)))(np.array([[7.0], [NAN]])) == 0).all()


def test_a_scaling_survives_its_file() -> None:
    dense = np.array([[0.0, NAN], [1.0, 2.0], [5.0, 3.0]])
    fitted = scaling.fit(dense)
    assert (Scaling.of(fitted.tensors())(dense) == fitted(dense)).all()
