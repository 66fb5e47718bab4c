"""A candidate next to the log: exact where all is seen, unbiased and covered where a sample is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.replay.compare import Comparison, Known, compare
from policies.replay.interval import Figure
from policies.replay.log import Logged, Outcome
from tests.policies.replay.worlds import world


def request(number: int, harm: float = 0.0, probability: float = 0.5, **more: bool) -> Logged:
    return Logged(f"{number}", f"{number}", float(number), probability, harm, 1.0, 0.1, **more)


def test_a_candidate_that_does_what_was_done_differs_in_nothing() -> None:
    requests = [request(number, harm=number % 3 == 0) for number in range(90)]
    outcomes = [each.routed(number % 2) for number, each in enumerate(requests)]
    found = compare(requests, outcomes, outcomes, 0.05).snips
    assert found.candidate == found.logged
    assert found.difference.cost_usd == Figure(0.0, 0.0, 0.0)
    assert found.difference.loss.value == 0 and found.difference.loss.low <= 0 <= found.difference.loss.high


def test_the_figures_are_means_weighted_by_how_rarely_a_request_was_looked_at() -> None:
    requests = [request(1, harm=1.0, probability=0.5), request(2, probability=0.25)]
    teacher, student = ([each.routed(p) for each in requests] for p in (1.0, 0.0))
    found = compare(requests, teacher, student, 0.05).snips
    assert found.candidate.loss.value == pytest.approx(2 / 6)
    assert (found.logged.loss.value, found.logged.teacher_share.value) == (0.0, 1.0)
    assert found.difference.cost_usd.value == pytest.approx(-0.9)
    assert found.effective == pytest.approx(36 / 20)


def test_an_escalation_costs_both_arms_and_loses_nothing() -> None:
    assert request(1, harm=1.0).escalated(0.04) == Outcome(1.0, 1.04, 0.0)


def test_a_student_that_fails_is_a_loss_unless_the_teacher_rescues_it() -> None:
    lost, rescued = (request(1, harm=1.0, student_failed=True, rescued=rescued) for rescued in (False, True))
    assert lost.routed(0.0) == Outcome(0.0, 0.1, 1.0)
    assert rescued.routed(0.0) == Outcome(1.0, 1.1, 0.0)
    assert rescued.routed(1.0) == Outcome(1.0, 1.0, 0.0)


def test_a_chance_that_is_the_same_for_all_is_no_estimate() -> None:
    requests = [request(number) for number in range(20)]
    logged, candidate = ([each.routed(p) for each in requests] for p in (0.75, 0.5))
    found = compare(requests, logged, candidate, 0.05).snips
    assert found.candidate.teacher_share == Figure(0.5, 0.5, 0.5)
    assert found.difference.teacher_share == Figure(-0.25, -0.25, -0.25)


def test_conversations_in_which_nothing_varies_say_as_much_as_one_request_of_each() -> None:
    """Of the ways in which losses of a conversation may go together nothing is seen, so that the worst is reckoned."""
    alone = [request(number) for number in range(40)]
    talks = [replace(request(number), conversation=f"{number // 10}") for number in range(400)]
    once, often = (
        compare(requests, [each.routed(1.0) for each in requests], [each.routed(0.0) for each in requests], 0.05).snips
        for requests in (alone, talks)
    )
    assert often.candidate.loss == once.candidate.loss
    assert often.difference.loss == once.difference.loss


def test_a_known_share_bounds_the_loss() -> None:
    requests = [request(number) for number in range(20)]
    logged, candidate = ([each.routed(p) for each in requests] for p in (1.0, 0.0))
    found = compare(requests, logged, candidate, 0.05, known=Known(candidate=0.97, logged=1.0)).snips
    assert found.logged.loss == Figure(0.0, 0.0, 0.0)
    assert found.candidate.loss == found.difference.loss
    assert found.candidate.loss.high == pytest.approx(0.03)


def test_a_known_share_makes_a_difference_no_less_sure_than_the_draws_that_both_were_seen_on() -> None:
    """The candidate does what was done on all but four of 200 requests; of the log's share the rows tell more."""
    requests = [request(number) for number in range(200)]
    logged = [each.routed(float(number % 3 == 0)) for number, each in enumerate(requests)]
    candidate = [
        each.routed(1.0 if number < 6 else now.teacher)
        for number, (each, now) in enumerate(zip(requests, logged, strict=True))
    ]
    paired = compare(requests, logged, candidate, 0.05).snips.difference.teacher_share
    found = compare(requests, logged, candidate, 0.05, known=Known(logged=0.3)).snips
    assert paired.value == pytest.approx(0.02) and paired.high < 0.06
    assert found.logged.teacher_share == Figure(0.3, 0.3, 0.3)
    assert found.difference.teacher_share == paired
    assert found.candidate.teacher_share.value == pytest.approx(0.32)
    near = compare(requests, logged, candidate, 0.05, known=Known(logged=0.999)).snips.candidate.teacher_share
    assert near.high == 1.0


def test_without_requests_there_is_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="at least one request"):
        compare([], [], [], 0.05)


@pytest.mark.parametrize(("conversations", "audit", "turns"), [(1200, 0.15, 1.0), (500, 0.2, 3.0)])
def test_both_estimators_are_unbiased_and_their_intervals_cover(conversations: int, audit: float, turns: float) -> None:
    rng = np.random.default_rng(6)
    truth = np.mean([world(rng, 8000, 0.0001, turns).truth for _ in range(6)], axis=0)
    runs, covered, errors = 40, np.zeros((2, 6)), []
    for _ in range(runs):
        made = world(rng, conversations, audit, turns)
        found = compare(made.requests, made.logged, made.candidate, 0.1, made.population)
        assert found.doubly_robust is not None
        judged = [_judged(each, truth) for each in (found.snips, found.doubly_robust)]
        covered += [[each.low <= 0 <= each.high for each in side] for side in judged]
        errors.append([[each.value for each in side] for side in judged])
    spread = np.std(errors, axis=0)
    assert (np.abs(np.mean(errors, axis=0)) < 3.3 * spread / runs**0.5).all()
    assert (covered / runs >= 0.9 - 3.3 * (0.09 / runs) ** 0.5).all()
    # What the rows tell of costs makes the doubly robust figures sharper.
    assert spread[1, 2] < 0.8 * spread[0, 2]


def _judged(found: Comparison, truth: np.ndarray) -> list[Figure]:
    cost, loss, logged_cost, logged_loss = truth
    pairs = (
        (found.candidate.cost_usd, cost),
        (found.candidate.loss, loss),
        (found.logged.cost_usd, logged_cost),
        (found.logged.loss, logged_loss),
        (found.difference.cost_usd, cost - logged_cost),
        (found.difference.loss, loss - logged_loss),
    )
    return [Figure(each.value - true, each.low - true, each.high - true) for each, true in pairs]
