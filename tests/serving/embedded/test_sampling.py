"""The draw of a token: what each parameter leaves possible."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.embedded.sampling import Sampler, SamplingParams, log_softmax, token_logprob

PROBABILITIES = np.array([0.1, 0.5, 0.1, 0.25, 0.05])
LOGITS = np.log(PROBABILITIES).astype(np.float32)
DRAWS = 400

logits_lists = st.lists(st.floats(min_value=-30, max_value=30, width=32), min_size=1, max_size=20)


def drawn(prompt_ids: tuple[int, ...] = (0,), **params: Any) -> Counter[int]:
    sampler = Sampler(SamplingParams(max_tokens=1, seed=7, **params), prompt_ids, len(LOGITS))
    return Counter(sampler.draw(LOGITS) for _ in range(DRAWS))


def test_without_filters_every_token_is_drawn_at_its_probability() -> None:
    counts = drawn()
    expected = PROBABILITIES * DRAWS
    assert set(counts) == set(range(5))
    assert sum((counts[token] - expected[token]) ** 2 / expected[token] for token in range(5)) < 20


def test_temperature_zero_is_greedy() -> None:
    assert set(drawn(temperature=0)) == {1}


def test_a_low_temperature_sharpens() -> None:
    assert drawn(temperature=0.3)[1] > drawn()[1]


def test_top_p_keeps_the_smallest_set_that_holds_the_mass() -> None:
    assert set(drawn(top_p=0.4)) == {1}
    assert set(drawn(top_p=0.7)) == {1, 3}
    assert set(drawn(top_p=0)) == {1}


def test_top_k_keeps_the_most_probable() -> None:
    assert set(drawn(top_k=2)) == {1, 3}
    assert set(drawn(top_k=-1)) == set(drawn(top_k=99)) == set(range(5))


def test_min_p_is_relative_to_the_most_probable() -> None:
    assert set(drawn(min_p=0.4)) == {1, 3}


def test_a_bias_bans_or_forces_a_token() -> None:
    assert 1 not in drawn(logit_bias={1: -100})
    assert set(drawn(logit_bias={4: 100})) == {4}


def test_penalties_move_the_choice_away_from_what_was_written() -> None:
    def greedy(**params: Any) -> list[int]:
        sampler = Sampler(SamplingParams(max_tokens=1, temperature=0, **params), [1], len(LOGITS))
        return [sampler.draw(LOGITS) for _ in range(3)]

    assert greedy(presence_penalty=2)[:2] == [1, 3]
    assert greedy(frequency_penalty=0.8) == [1, 3, 1]
    # The repetition penalty sees the prompt too; it leads away at once.
    assert greedy(repetition_penalty=2.5)[0] == 3


@given(logits_lists, st.floats(0.01, 2), st.floats(0, 1), st.integers(-1, 25), st.floats(0, 1), st.integers())
def test_any_parameters_draw_a_token_of_the_vocabulary(
    logits: list[float], temperature: float, top_p: float, top_k: int, min_p: float, seed: int
) -> None:
    params = SamplingParams(
        max_tokens=1, temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed % 2**64
    )
    row = np.array(logits, np.float32)
    first, second = (Sampler(params, [0], len(row)).draw(row) for _ in range(2))
    assert first == second
    assert 0 <= first < len(row)


@given(logits_lists)
def test_log_probabilities_are_those_of_a_distribution(logits: list[float]) -> None:
    row = np.array(logits, np.float32)
    assert np.isclose(np.exp(log_softmax(row)).sum(), 1, atol=1e-5)
    report = token_logprob(row, 0, 3, text_offset=0)
    assert report.logprob is not None
    assert report.logprob <= report.top[0][1] == max(logprob for _, logprob in report.top)
    assert len(report.top) == min(3, len(row))
