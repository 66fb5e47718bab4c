"""Thresholds, paces, floors and stickiness together."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.control.compose import choose
from policies.control.stickiness import Kept, StickySettings, lost_cache_usd

LOSS = st.floats(0, 1)
COST = st.floats(-0.01, 10)
BAR = st.none() | st.floats(0, 1.5)
PRICE = st.none() | st.floats(0, 1e6)
KEPT = st.builds(
    Kept, st.sampled_from(["teacher", "student"]), switch_cost_usd=st.floats(0, 10), margin=st.floats(0, 1)
)


def test_the_teacher_answers_from_the_threshold_on() -> None:
    below, at = choose(0.29, 1.0, threshold=0.3), choose(0.3, 1.0, threshold=0.3)
    assert (below.arm, at.arm) == ("student", "teacher")
    assert (at.reason, at.threshold, at.switch_cost_usd) == ("threshold", 0.3, None)


def test_the_strictest_of_threshold_and_pace_limits_the_teacher() -> None:
    strict_pace = choose(0.4, 0.01, threshold=0.3, pace_usd=50.0)
    strict_threshold = choose(0.4, 0.001, threshold=0.3, pace_usd=50.0)
    assert (strict_pace.arm, strict_pace.reason, strict_pace.threshold) == ("student", "pace", 0.5)
    assert (strict_threshold.arm, strict_threshold.reason) == ("teacher", "threshold")


def test_the_floor_wins_over_a_threshold_and_a_pace_that_would_keep_the_student() -> None:
    choice = choose(0.2, 0.01, threshold=0.5, pace_usd=1000.0, floor=0.15)
    assert (choice.arm, choice.reason, choice.threshold) == ("teacher", "floor", 0.15)


def test_a_floor_above_the_threshold_changes_nothing() -> None:
    assert choose(0.2, 0.01, threshold=0.3, floor=0.6) == choose(0.2, 0.01, threshold=0.3)


def test_a_floor_of_zero_gives_everything_to_the_teacher() -> None:
    kept = Kept("student", 1.0, 0.5)
    assert choose(0.0, 5.0, threshold=0.9, pace_usd=1e6, floor=0.0, kept=kept).arm == "teacher"


def test_a_floor_alone_lets_the_student_serve_what_is_certified() -> None:
    assert choose(0.2, 1.0, floor=0.3).arm == "student"
    assert choose(0.3, 1.0, floor=0.3).arm == "teacher"


def test_a_teacher_that_costs_no_more_is_not_held_back_by_the_pace() -> None:
    assert choose(0.01, -0.5, pace_usd=1e6).arm == "teacher"


def test_without_a_controller_nothing_decides() -> None:
    with pytest.raises(ValueError, match="nothing decides"):
        choose(0.5, 1.0)


def test_a_warm_student_is_left_only_for_what_its_cache_is_worth() -> None:
    # c = 1, k = 0.5, bar 0.4: towards the teacher from 0.4 x 1.5 on
    kept = Kept("student", 0.5)
    stays, goes = choose(0.55, 1.0, threshold=0.4, kept=kept), choose(0.61, 1.0, threshold=0.4, kept=kept)
    assert (stays.arm, stays.reason, stays.switch_cost_usd) == ("student", "sticky", 0.5)
    assert (goes.arm, goes.reason) == ("teacher", "threshold")


def test_a_warm_teacher_is_left_only_for_what_its_cache_is_worth() -> None:
    kept = Kept("teacher", 0.5)
    stays, goes = choose(0.2, 1.0, threshold=0.4, kept=kept), choose(0.19, 1.0, threshold=0.4, kept=kept)
    assert (stays.arm, stays.reason) == ("teacher", "sticky")
    assert (goes.arm, goes.reason) == ("student", "threshold")


def test_the_floor_wins_over_staying_with_the_student() -> None:
    choice = choose(0.5, 1.0, threshold=0.4, floor=0.45, kept=Kept("student", 10.0))
    assert choice.arm == "teacher"


def test_a_loss_that_wavers_about_the_bar_does_not_move_a_conversation() -> None:
    """Where no cache is priced the margin keeps it."""
    arm = choose(0.41, 1.0, threshold=0.4).arm
    arms = []
    for loss in (0.39, 0.41, 0.38, 0.42, 0.39):
        arm = choose(loss, 1.0, threshold=0.4, kept=Kept(arm, 0.0, StickySettings().margin)).arm
        arms.append(arm)
    assert arms == ["teacher"] * 5


def test_the_paced_bar_is_the_real_extra_cost_times_the_price() -> None:
    """Leaving a warm student costs what its cache saves on top; leaving a warm teacher costs so much less."""
    assert choose(0.5, 0.01, pace_usd=10.0, kept=Kept("student", 0.02)).threshold == pytest.approx(0.3)
    assert choose(0.5, 0.01, pace_usd=10.0, kept=Kept("teacher", 0.004)).threshold == pytest.approx(0.06)


@given(LOSS, COST, BAR, PRICE, st.floats(0, 1.5), st.none() | KEPT)
@example(0.0, 5e-324, None, None, 0.0, Kept("student", 1.0))  # a cache that is worth infinitely more than the teacher
@example(0.0, 5e-324, None, 0.0, 1.0, Kept("student", 1.0))
def test_from_the_floor_on_the_teacher_always_answers(
    loss: float, cost: float, threshold: float | None, pace: float | None, floor: float, kept: Kept | None
) -> None:
    choice = choose(loss, cost, threshold=threshold, pace_usd=pace, floor=floor, kept=kept)
    assert choice.arm == "teacher" or loss < floor
    assert choice.threshold <= floor


@given(LOSS, COST, st.floats(0, 1.5), PRICE, BAR, KEPT)
def test_stickiness_only_ever_keeps_the_arm_that_a_conversation_has(
    loss: float, cost: float, threshold: float, pace: float | None, floor: float | None, kept: Kept
) -> None:
    plain = choose(loss, cost, threshold=threshold, pace_usd=pace, floor=floor)
    sticky = choose(loss, cost, threshold=threshold, pace_usd=pace, floor=floor, kept=kept)
    assert sticky.arm == plain.arm or sticky.arm == kept.arm
    assert (sticky.reason == "sticky") == (sticky.arm != plain.arm)
    assert sticky.switch_cost_usd == kept.switch_cost_usd


@given(LOSS, LOSS, COST, st.floats(0, 1.5), PRICE, BAR, st.none() | KEPT)
def test_more_loss_never_takes_a_request_from_the_teacher(
    one: float,
    other: float,
    cost: float,
    threshold: float,
    pace: float | None,
    floor: float | None,
    kept: Kept | None,
) -> None:
    low, high = (
        choose(loss, cost, threshold=threshold, pace_usd=pace, floor=floor, kept=kept).arm
        for loss in sorted((one, other))
    )
    assert (low, high) != ("teacher", "student")


@given(st.floats(0, 1), st.floats(1e-6, 10), st.floats(0, 10), st.floats(0, 10), st.lists(LOSS, max_size=30))
def test_a_conversation_changes_its_model_only_across_the_whole_gap(
    threshold: float, cost: float, teacher_saves: float, student_saves: float, losses: list[float]
) -> None:
    """It never flaps: back and forth takes a loss above the upper bar and one below the lower."""
    saves = {"teacher": teacher_saves, "student": student_saves}
    up = threshold * (1 + max(0.1, student_saves / cost))
    down = threshold * max(0.0, 1 - max(0.1, teacher_saves / cost))
    arm = None
    for loss in losses:
        kept = Kept(arm, saves[arm], 0.1) if arm else None
        now = choose(loss, cost, threshold=threshold, kept=kept).arm
        if arm and now != arm:
            assert loss >= up if now == "teacher" else loss < down
        arm = now


def test_what_a_cache_saves_is_the_discount_on_its_tokens() -> None:
    assert lost_cache_usd(10_000, 2.0, 0.5) == pytest.approx(0.015)
    assert lost_cache_usd(10_000, 0.5, 0.5) == 0.0
