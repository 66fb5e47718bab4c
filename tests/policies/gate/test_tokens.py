"""Entropies of a token's alternatives, and the signals of a list of tokens."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gate.tokens import Token, entropy, signals_of

LOGPROBS = st.lists(st.floats(-1e4, 0), min_size=2, max_size=20)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_alternatives_that_are_equally_likely_have_the_entropy_of_their_number(count: int) -> None:
    assert entropy([-3.0] * count) == pytest.approx(log(count))


@pytest.mark.parametrize("logprobs", [[], [-0.1]])
def test_of_fewer_than_two_alternatives_nothing_can_be_said(logprobs: list[float]) -> None:
    assert entropy(logprobs) is None


@given(LOGPROBS)
def test_an_entropy_is_that_of_the_renormalised_alternatives(logprobs: list[float]) -> None:
    found = entropy(logprobs) or 0.0
    shares = np.exp(np.array(logprobs) - max(logprobs))
    shares = shares[shares > 0] / shares.sum()
    assert found == pytest.approx(float(-(shares * np.log(shares)).sum()), abs=1e-9)
    assert 0 <= found <= log(len(logprobs)) + 1e-9


@given(LOGPROBS, st.floats(-100, 100))
def test_an_entropy_does_not_depend_on_what_the_alternatives_leave_out(logprobs: list[float], shift: float) -> None:
    assert entropy([value + shift for value in logprobs]) == pytest.approx(entropy(logprobs), abs=1e-6)


def test_signals_are_of_the_tokens_and_of_the_entropies_that_came() -> None:
    tokens = [Token("a", -0.5, 0.2), Token("b", -1.5), Token("c", -1.0, 0.6)]
    found = signals_of(tokens)
    assert found is not None
    assert (found.tokens, found.mean, found.minimum) == (3, -1.0, -1.5)
    assert found.entropy_mean == pytest.approx(0.4)
    assert found.entropy_max == 0.6
    assert signals_of([]) is None
    bare = signals_of([Token("a", -0.5)])
    assert bare is not None and bare.entropy_mean is None and exp(bare.mean) == pytest.approx(0.6065, abs=1e-4)
