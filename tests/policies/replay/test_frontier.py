"""Operating points decide as they say, and what is certified holds as often as promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.replay.frontier import Choosable, certified_share, certified_threshold, thresholds
from policies.replay.log import Logged, Outcome


def choosable(score: float | None, harm: float = 0.0) -> Choosable:
    return Choosable(score, Outcome(0.0, 0.1, harm), Outcome(1.0, 1.0, 0.0))


def logged(count: int, probability: float = 0.5, each_says: int = 1) -> list[Logged]:
    return [Logged(f"{n}", f"{n // each_says}", float(n), probability, 0.0, 1.0, 0.1) for n in range(count)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_a_point_gives_the_student_whole_groups_of_equal_scores(scores: list[float]) -> None:
    points = thresholds(logged(len(scores)), [choosable(score) for score in scores])
    assert points == sorted(points) and all(0 <= point <= 1 for point in points)
    counts = [sum(score < point for score in scores) for point in points]
    assert counts == sorted(counts)
    assert counts[-1] == len([score for score in scores if score < 1]) or max(scores) == 1


def test_points_are_short_decimals_between_the_scores() -> None:
    assert thresholds(logged(2), [choosable(0.123456), choosable(0.2)]) == [0.16, 0.6]


def test_what_the_client_or_a_guard_settled_has_no_point() -> None:
    assert thresholds(logged(3), [choosable(None)] * 3) == []
    assert choosable(None, harm=1.0).at(1.0) == choosable(None).split(1.0) == Outcome(1.0, 1.0, 0.0)


def test_a_split_is_between_its_arms() -> None:
    assert choosable(0.0, harm=1.0).split(0.25) == Outcome(0.75, 0.25 * 0.1 + 0.75, 0.25)


def test_a_larger_loss_certifies_no_smaller_share() -> None:
    rng = np.random.default_rng(9)
    scores = rng.random(2000)
    ways = [choosable(float(s), float(rng.random() < s**2)) for s in scores]
    for find in (certified_threshold, certified_share):
        found = [find(logged(2000), ways, level, 0.05) or 0.0 for level in (0.02, 0.05, 0.2, 0.9)]
        assert found[0] > 0 and found == sorted(found) and len(set(found)) == 4


def test_few_requests_certify_nothing() -> None:
    ways = [choosable(0.1)] * 20
    assert certified_threshold(logged(20), ways, 0.05, 0.05) is None
    assert certified_share(logged(20), ways, 0.05, 0.05) is None


def test_the_certified_point_takes_in_what_was_tested_and_nothing_above() -> None:
    ways = [*[choosable(0.1)] * 300, *[choosable(0.9, harm=1.0)] * 300]
    assert certified_threshold(logged(600), ways, 0.05, 0.05) == 0.5


def test_turns_of_one_conversation_do_not_count_as_more_evidence() -> None:
    ways = [choosable(0.1)] * 100
    assert certified_threshold(logged(100), ways, 0.05, 0.05) is not None
    assert certified_threshold(logged(100, each_says=5), ways, 0.05, 0.05) is None


def test_a_long_conversation_counts_as_often_as_it_asks() -> None:
    """200 requests without a loss, each alone; 450 with one, in conversations of nine: the student loses 69%."""
    conversations = [*range(200), *(200 + n // 9 for n in range(450))]
    requests = [Logged(f"{n}", f"{each}", 0.0, 0.5, 0.0, 1.0, 0.1) for n, each in enumerate(conversations)]
    ways = [choosable(0.1, harm=float(each >= 200)) for each in conversations]
    share = certified_share(requests, ways, 0.2, 0.1)
    assert share is not None and 0.2 <= share <= 0.2 / (450 / 650)


def test_what_no_threshold_changes_loses_too() -> None:
    """Half of the requests, pinned to the student, lose 30%: whatever the others do, 15% of all are lost."""
    pinned = [Choosable(None, *[Outcome(0.0, 0.1, float(n % 10 < 3))] * 2) for n in range(500)]
    ways = [*pinned, *[choosable(0.1)] * 500]
    assert certified_threshold(logged(1000), ways, 0.05, 0.05) is None
    assert certified_threshold(logged(1000), ways, 0.2, 0.05) is not None


def test_a_share_is_not_certified_where_the_teacher_loses_too() -> None:
    with pytest.raises(ValueError, match="only where the teacher loses nothing"):
        certified_share(logged(1), [Choosable(None, *[Outcome(0.0, 0.1, 1.0)] * 2)], 0.05, 0.05)


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_a_certainty_cannot_be_asked_for(delta: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        certified_threshold(logged(1), [choosable(0.1)], 0.05, delta)
    with pytest.raises(ValueError, match="between 0 and 1"):
        certified_share(logged(1), [choosable(0.1)], 0.05, delta)


@pytest.mark.parametrize("says", [1, 4])
def test_what_is_certified_is_exceeded_no_more_often_than_said(says: int) -> None:
    """Scores are uniform within a conversation of equal harm, P(harm) = score²/2: the loss at t is t³/6."""
    rng = np.random.default_rng(10)
    runs, delta, broken, shares = 50, 0.2, np.zeros(2), []
    for _ in range(runs):
        scores = np.repeat(rng.random(300), says)
        harm = np.repeat(rng.random(300) < 0.5 * scores[::says] ** 2, says)
        ways = [choosable(float(s), float(h)) for s, h in zip(scores, harm, strict=True)]
        point = certified_threshold(logged(300 * says, each_says=says), ways, 0.08, delta)
        share = certified_share(logged(300 * says, each_says=says), ways, 0.08, delta)
        assert point is not None and share is not None
        broken += [point**3 / 6 > 0.08, share / 6 > 0.08]
        shares.append(point)
    assert (broken / runs <= delta + 3 * (delta * (1 - delta) / runs) ** 0.5).all()
    assert np.mean(shares) > 0.65  # of the 0.78 at which the loss is 8%
