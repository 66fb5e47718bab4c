"""What a route knows at this moment: expected costs, kept conversations, floors and prices, and what is counted."""

from __future__ import annotations

import time

import pytest

from policies.certify.bins import score_bin
from policies.certify.records import Audited
from policies.control.pace import worth_bin
from policies.control.stickiness import StickySettings
from router.control.conversations import Conversations
from router.control.live import Boards, LiveRoute, State
from router.control.tally import MOST_AUDITS
from router.ledger.pricing import Usage
from tests.control.made import FLOOR, live_route
from tests.support.policy_parts import Asked

PAIR = Audited(0.2, 1.0, 0.1, 5.0, True)


def published(live: LiveRoute, **state: object) -> None:
    live.board.state = State(**{"version": live.version, **state})  # type: ignore[arg-type]
    live.board.seen_at = time.monotonic()


def test_what_the_teacher_costs_more_is_learned_from_answers() -> None:
    live = live_route(Boards())
    for _ in range(2_000):
        live.answered(Asked(prompt_bytes=3_000), "teacher", Usage(1_000, 500))
        live.answered(Asked(prompt_bytes=3_000), "student", Usage(1_200, 100))
    request = Asked(prompt_bytes=6_000)  # twice as long
    teacher_usd = (2_000 * 2.0 + 500 * 8.0) / 1e6
    student_usd = (2_400 * 0.2 + 100 * 0.8) / 1e6
    assert live.teacher_cost_usd(request) == pytest.approx(teacher_usd, rel=0.01)
    assert live.extra_cost_usd(request) == pytest.approx(teacher_usd - student_usd, rel=0.01)


def test_a_limit_on_the_output_bounds_what_it_is_expected_to_cost() -> None:
    live = live_route(Boards())
    assert live.teacher_cost_usd(Asked(output_tokens=1)) < live.teacher_cost_usd(Asked())
    assert live.teacher_cost_usd(Asked(output_tokens=100_000)) == live.teacher_cost_usd(Asked())


def test_what_was_learned_outlives_a_reload_with_the_same_models() -> None:
    boards = Boards()
    live_route(boards).answered(Asked(), "teacher", Usage(5_000, 5_000))
    assert live_route(boards).teacher_cost_usd(Asked()) > 2 * live_route(Boards()).teacher_cost_usd(Asked())


def test_a_conversation_is_kept_with_what_its_cache_saves() -> None:
    sticky = StickySettings(margin=0.2)
    live = live_route(Boards(), sticky=sticky, conversations=Conversations())
    said = Asked("a long talk", prompt_bytes=3_000)
    assert live.kept(said) is None
    live.answered(said, "teacher", Usage(1_000, 0))
    kept = live.kept(said)
    assert kept and (kept.arm, kept.margin) == ("teacher", 0.2)
    assert kept.switch_cost_usd == pytest.approx(1_000 * (2.0 - 0.5) / 1e6, rel=0.01)
    assert live.kept(Asked("another one")) is None


def test_a_cache_saves_no_more_than_the_prompt_costs() -> None:
    live = live_route(Boards(), sticky=StickySettings(), conversations=Conversations())
    said = Asked(prompt_bytes=3_000)
    live.answered(said, "student", Usage(1_000, 50_000))
    kept = live.kept(said)
    assert kept and kept.switch_cost_usd == pytest.approx(1_000 * (0.2 - 0.1) / 1e6, rel=0.01)


def test_without_stickiness_no_conversation_is_kept() -> None:
    conversations = Conversations()
    live = live_route(Boards(), conversations=conversations)
    live.answered(Asked(), "teacher", Usage(1_000, 0))
    assert live.kept(Asked()) is None


def test_a_route_without_a_floor_has_none_and_wants_no_audits() -> None:
    live = live_route(Boards(), floor=None)
    assert (live.floor, live.pace_usd, live.audit_rate) == (None, None, 0.0)


def test_a_floor_is_followed_while_it_is_about_what_scores_and_answers_here() -> None:
    version = ["v1"]
    live = live_route(Boards(), scorer=lambda: version[0])
    published(live, floor=0.4, audit_rate=0.08)
    assert (live.floor, live.audit_rate) == (0.4, 0.08)
    version[0] = "v2"
    assert (live.floor, live.audit_rate) == (0.0, FLOOR.shadow_rate)


def test_while_nobody_counts_its_audits_a_floor_wants_no_more_than_the_usual_ones() -> None:
    live = live_route(Boards())
    published(live, floor=0.0, audit_rate=FLOOR.shadow_rate)
    assert live.audit_rate == FLOOR.shadow_rate
    live.board.seen_at -= FLOOR.stale_s + 1
    assert live.audit_rate == FLOOR.audit_rate < FLOOR.shadow_rate


def test_what_no_audit_could_tell_of_is_in_no_histogram_and_still_worth_its_price() -> None:
    live = live_route(Boards(), paced=True)
    live.decided(Asked(), "v1", 0.3, 0.0, "student", covered=False)
    live.uncovered("v1")
    [tally] = live.board.take()
    assert (tally.uncovered, tally.requests, sum(tally.scores), sum(tally.student)) == (2, 0, 0, 0)
    assert [cell[0] for cell in tally.worth.values()] == [1]


def test_without_a_floor_nothing_is_outside_of_it() -> None:
    live = live_route(Boards(), floor=None)
    live.uncovered("v1")
    assert live.board.take() == []


def test_a_paced_route_takes_everything_for_worth_it_until_a_price_is_known() -> None:
    live = live_route(Boards(), paced=True)
    assert live.pace_usd == 0.0
    published(live, pace_usd=12.5)
    assert live.pace_usd == 12.5


def test_what_was_decided_and_audited_is_counted_by_version_and_taken_once() -> None:
    live = live_route(Boards(), paced=True, threshold=0.1)
    published(live, floor=0.6)
    for loss, arm in ((0.05, "student"), (0.3, "student"), (0.3, "teacher"), (0.8, "teacher")):
        live.decided(Asked(), "v1", loss, 0.0, arm)  # type: ignore[arg-type]
    live.audited("v0", PAIR)
    tallies = {tally.version: tally for tally in live.board.take()}
    now, before = tallies["v1"], tallies["v0"]
    assert now.requests == sum(now.scores) == 4
    assert now.scores[score_bin(0.3)] == 2 and now.student[score_bin(0.3)] == 1 and now.student[score_bin(0.8)] == 0
    assert before.audits == [PAIR] and before.requests == 0
    assert live.board.take() == []


def test_a_pace_sees_the_requests_above_the_threshold_and_which_of_them_were_worth_its_price() -> None:
    live = live_route(Boards(), paced=True, threshold=0.1, floor=None)
    extra_usd = live.extra_cost_usd(Asked())
    published(live, pace_usd=0.5 / extra_usd)
    for loss in (0.05, 0.3, 0.3, 0.8):
        live.decided(Asked(), "v1", loss, 0.0, "teacher")
    [tally] = live.board.take()
    assert tally.worth == {
        worth_bin(0.3, extra_usd): [2, 2 * extra_usd],
        worth_bin(0.8, extra_usd): [1, extra_usd],
    }
    assert tally.taken_usd == extra_usd


def test_a_request_that_was_scored_by_chance_stands_for_those_that_were_not() -> None:
    live = live_route(Boards(), paced=True, floor=FLOOR)
    for _ in range(2_000):
        live.decided(Asked(), "v1", 0.3, 0.0, "teacher", probability=0.4)
    [tally] = live.board.take()
    assert tally.requests == pytest.approx(5_000, rel=0.05)
    assert sum(tally.scores) == sum(tally.novelties) == tally.requests
    [(count, cost)] = tally.worth.values()
    assert count == tally.requests
    assert cost == pytest.approx(count * live.extra_cost_usd(Asked()))


def test_an_escalation_is_worth_what_the_teachers_whole_answer_costs() -> None:
    live = live_route(Boards(), paced=True, floor=None)
    live.decided(Asked(), "v1", 0.3, 0.0, "teacher", gated=True)
    [tally] = live.board.take()
    assert tally.taken_usd == live.teacher_cost_usd(Asked())


def test_a_route_that_is_not_controlled_counts_nothing() -> None:
    live = live_route(Boards(), floor=None)
    live.decided(Asked(), "v1", 0.3, 0.0, "student")
    live.audited("v1", PAIR)
    assert live.board.take() == []


def test_what_waits_to_be_told_is_bounded() -> None:
    live = live_route(Boards())
    for number in range(MOST_AUDITS + 3):
        live.audited("v1", PAIR)
        live.decided(Asked(), f"v{number % 30}", 0.3, 0.0, "student")
    tallies = live.board.take()
    assert len(tallies) == 8
    assert len(tallies[0].audits) == MOST_AUDITS


def test_scores_that_are_no_numbers_are_counted_as_the_worst_and_never_audited() -> None:
    live = live_route(Boards())
    live.decided(Asked(), "v1", float("nan"), float("nan"), "teacher")
    live.audited("v1", Audited(float("nan"), 1.0, 0.1, 5.0, True))
    [tally] = live.board.take()
    assert tally.scores[-1] == 1 and tally.novelties[-1] == 1
    assert tally.audits == []
