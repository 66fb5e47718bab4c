"""The trial of a new version: it wins where it is better, seldom where it is not, and conversations count once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.bounds import Floats
from router.trained.trial import level, tried

SHARE = st.floats(0, 1)
REQUEST = st.tuples(SHARE, SHARE, SHARE, st.floats(1, 100), st.sampled_from(["", "a", "b", "c"]))


def alone(count: int) -> list[str]:
    return [""] * count


def drawn(seed: int, count: int = 300) -> tuple[Floats, Floats]:
    """True probabilities of harm, and harm drawn by them."""
    random = np.random.default_rng(seed)
    truth = random.choice([0.02, 0.1, 0.5], size=count)
    return truth, (random.random(count) < truth).astype(float)


def test_a_version_that_knows_more_wins_over_the_base_rate() -> None:
    truth, harm = drawn(1)
    found = tried(truth, np.full_like(truth, truth.mean()), harm, np.ones_like(harm), alone(len(harm)))
    assert found.gain > 0 and found.evidence > 20 and found.pairs == found.conversations == 300


def test_a_version_that_knows_less_does_not() -> None:
    truth, harm = drawn(1)
    found = tried(np.full_like(truth, truth.mean()), truth, harm, np.ones_like(harm), alone(len(harm)))
    assert found.gain < 0 and found.evidence < 1


def test_two_equals_are_told_apart_no_more_often_than_the_level_allows() -> None:
    """Each is off by as much, in other places: neither is better, and evidence of 20 may come in 5% of the cases."""
    wins = 0
    for seed in range(400):
        truth, harm = drawn(seed)
        noise = np.random.default_rng(seed + 1000).normal(0, 0.1, (2, len(truth)))
        one, other = np.clip(truth + noise, 0, 1)
        wins += tried(one, other, harm, np.ones_like(harm), alone(len(harm))).evidence >= 20
    assert wins <= 20


def test_a_version_is_no_better_than_itself() -> None:
    truth, harm = drawn(1)
    found = tried(truth, truth, harm, np.ones_like(harm), alone(len(harm)))
    assert (found.gain, found.evidence) == (0.0, 1.0)


def test_one_conversation_proves_nothing_however_many_turns_it_has() -> None:
    truth, harm = drawn(1)
    rival = np.full_like(truth, truth.mean())
    found = tried(truth, rival, harm, np.ones_like(harm), ["same"] * len(harm))
    assert found.conversations == 1 and found.evidence < 20


def test_pairs_count_by_their_weight() -> None:
    expected, rival, harm = np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([0.0, 0.0])
    assert tried(expected, rival, harm, np.array([3.0, 1.0]), alone(2)).gain == pytest.approx(0.5)
    assert tried(expected, rival, harm, np.array([1.0, 3.0]), alone(2)).gain == pytest.approx(-0.5)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_a_version_that_expects_no_number_is_tried_against_nothing(odd: float, side: int) -> None:
    both = [np.array([0.1, 0.2]), np.array([0.3, 0.4])]
    both[side][1] = odd
    with pytest.raises(ValueError, match="no finite number"):
        tried(both[0], both[1], np.array([0.0, 1.0]), np.ones(2), alone(2))


@pytest.mark.parametrize("tiny", [5e-324, 2e-160, 1e-100])
def test_differences_too_small_to_count_are_evidence_of_nothing_or_little(tiny: float) -> None:
    for expected, rival in (([tiny], [0.0]), ([0.0], [tiny]), ([tiny, 0.0], [0.0, tiny])):
        harm = np.zeros(len(expected))
        found = tried(np.array(expected), np.array(rival), harm, np.ones(len(harm)), alone(len(harm)))
        assert 0 < found.evidence <= 2


def test_versions_that_differ_by_a_rounding_are_no_infinite_evidence() -> None:
    random = np.random.default_rng(0)
    for _ in range(2_000):
        rival, harm = random.random((2, 2))
        found = tried(np.nextafter(rival, random.integers(0, 2, 2)), rival, harm, np.ones(2), alone(2))
        assert 0 <= found.evidence < 1_000


@given(st.lists(REQUEST, min_size=1, max_size=20))
def test_evidence_is_finite_and_does_not_depend_on_the_order_or_the_scale_of_weights(
    requests: list[tuple[float, float, float, float, str]],
) -> None:
    def evidence(rows: list[tuple[float, float, float, float, str]], scale: float) -> float:
        expected, rival, harm, weight = np.array([row[:4] for row in rows]).T
        return tried(expected, rival, harm, scale * weight, [row[4] for row in rows]).evidence

    found = evidence(requests, 1.0)
    assert 0 <= found < np.inf
    assert evidence(requests[::-1], 7.0) == pytest.approx(found, rel=1e-6)


@given(st.lists(REQUEST, min_size=1, max_size=8))
def test_the_expected_evidence_is_at_most_one_where_the_new_version_is_no_better(
    requests: list[tuple[float, float, float, float, str]],
) -> None:
    """Exactly: over all 2^n harms, each with its probability, as the rival says it."""
    expected, rival, _, weight = np.array([row[:4] for row in requests]).T
    total = 0.0
    for number in range(2 ** len(requests)):
        harm = np.array([number >> place & 1 for place in range(len(requests))], dtype=float)
        chance = float(np.prod(np.where(harm == 1, rival, 1 - rival)))
        total += chance * tried(expected, rival, harm, weight, alone(len(requests))).evidence
    assert total <= 1 + 1e-9


def test_levels_of_any_number_of_trials_stay_within_delta() -> None:
    assert level(0.05, 1) == 0.025
    assert sum(level(0.05, trial) for trial in range(1, 10_000)) < 0.05
