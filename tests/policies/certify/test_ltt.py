from __future__ import annotations

import numpy as np
import pytest

from policies.certify.bins import EDGES
from policies.certify.ltt import certified_threshold

ALPHA, DELTA = 0.05, 0.1


def pairs(rng: np.random.Generator, size: int, reverse: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = 0.3 * rng.random(size)
    draws = rng.random(size)
    losses = np.where(draws < scores, 1.0, np.where(draws > 1 - reverse, -1.0, 0.0))
    return scores, losses, np.ones(size)


def true_loss(threshold: float, reverse: float = 0.0) -> float:
    """Scores are even in [0, 0.3] and are the probability of a loss: the mean of (score - reverse) below."""
    below = min(threshold, 0.3)
    return (below**2 / 2 - reverse * below) / 0.3


@pytest.mark.parametrize("reverse", [0.0, 0.05])
def test_the_threshold_keeps_alpha_in_all_but_a_share_delta_of_calibration_sets(reverse: float) -> None:
    rng = np.random.default_rng(1)
    found = [certified_threshold(*pairs(rng, 400, reverse), ALPHA, DELTA, EDGES[1:]) for _ in range(150)]
    broken = sum(true_loss(threshold, reverse) > ALPHA for threshold in found)
    assert broken <= DELTA * 150
    assert np.median(found) > 0.1


def test_wins_of_the_student_pay_for_losses() -> None:
    scores, losses, chances = pairs(np.random.default_rng(2), 2_000, reverse=0.05)
    net = certified_threshold(scores, losses, chances, ALPHA, DELTA, EDGES[1:])
    assert net > certified_threshold(scores, np.maximum(losses, 0), chances, ALPHA, DELTA, EDGES[1:])


def test_a_loss_that_was_seldom_looked_at_weighs_more() -> None:
    scores, losses, chances = pairs(np.random.default_rng(3), 1_000)
    seldom = np.where(losses > 0, 0.25, 1.0)
    weighed = certified_threshold(scores, losses, seldom, ALPHA, DELTA, EDGES[1:])
    assert 0 < weighed < certified_threshold(scores, losses, chances, ALPHA, DELTA, EDGES[1:])


def test_twenty_pairs_certify_nothing() -> None:
    assert certified_threshold(np.zeros(20), np.zeros(20), np.ones(20), ALPHA, DELTA, EDGES[1:]) == 0.0


def test_all_edges_pass_without_a_loss() -> None:
    assert certified_threshold(np.zeros(200), np.zeros(200), np.ones(200), ALPHA, DELTA, EDGES[1:]) == 1.0
