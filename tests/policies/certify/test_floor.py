from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.bounds import Floats
from policies.certify.bins import EDGES, NOVELTY_BINS, SCORE_BINS
from policies.certify.floor import Audited, Floor, FloorSettings, Scored
from policies.certify.ltt import certified_threshold
from tests.policies.certify.traffic import Course, Requests, counts, drive, requests

ALPHA = 0.03
SETTINGS = FloorSettings(alpha=ALPHA)


@dataclass(frozen=True)
class CalibrationSet:
    loss: Floats
    harm: Floats
    weight: Floats = field(default_factory=lambda: np.ones(0))

    @classmethod
    def drawn(cls, size: int = 1_500, harm: float = 1.0, seed: int = 9) -> CalibrationSet:
        of = requests(np.random.default_rng(seed), harm, size=size)
        return cls(of.scores, of.losses, np.ones(size))


def steady(rng: np.random.Generator) -> Callable[[int], Requests]:
    return lambda step: requests(rng)


def started(seed: int = 1, steps: int = 60) -> tuple[Floor, np.random.Generator, Course]:
    rng = np.random.default_rng(seed)
    floor = Floor(SETTINGS)
    floor.start(CalibrationSet.drawn(), 0.0)
    return floor, rng, drive(floor, steps, steady(rng), rng)


def test_the_teacher_serves_everything_until_enough_audits_are_there() -> None:
    rng, floor = np.random.default_rng(1), Floor(SETTINGS)
    course = drive(floor, 30, steady(rng), rng)
    first = course.phases.index("certified")
    assert not any(course.student[: first + 1])
    assert course.student[-1] > 0.1
    assert floor.status().audits >= SETTINGS.min_audits
    assert "calibrated" in floor.status().why


def test_the_first_calibration_is_audited_at_the_shadow_rate() -> None:
    assert Floor(SETTINGS).audit_rate == SETTINGS.shadow_rate


def test_a_calibration_set_certifies_at_once_what_learn_then_test_does() -> None:
    floor, calibration = Floor(SETTINGS), CalibrationSet.drawn()
    floor.start(calibration, 0.0)
    assert floor.phase == "certified"
    limit = certified_threshold(
        calibration.loss, calibration.harm, calibration.weight, ALPHA, SETTINGS.delta, EDGES[1:]
    )
    assert 0 < floor.threshold <= limit
    rng = np.random.default_rng(1)
    course = drive(floor, 8, steady(rng), rng)
    assert max(course.thresholds) <= limit


def test_a_calibration_set_that_certifies_nothing_waits_for_audits() -> None:
    floor = Floor(SETTINGS)
    floor.start(CalibrationSet.drawn(size=40), 0.0)
    assert (floor.phase, floor.threshold) == ("calibrating", 0.0)
    rng = np.random.default_rng(1)
    drive(floor, 20, steady(rng), rng)
    assert floor.phase == "certified"


def test_weights_of_a_calibration_set_count() -> None:
    even = CalibrationSet.drawn(size=400)
    heavy = CalibrationSet(even.loss, even.harm, np.where(even.harm > 0, 2.0, 1.0))
    thresholds = []
    for calibration in (even, heavy):
        floor = Floor(FloorSettings(alpha=0.08))
        floor.start(calibration, 0.0)
        thresholds.append(floor.threshold)
        chances = calibration.weight.min() / calibration.weight
        limit = certified_threshold(calibration.loss, calibration.harm, chances, 0.08, SETTINGS.delta, EDGES[1:])
        assert floor.threshold == limit
    assert thresholds[1] < thresholds[0]


def test_new_kinds_of_requests_stop_the_student_before_a_label_is_seen() -> None:
    floor, rng, _ = started()
    course = drive(floor, 6, lambda step: requests(rng, novelty=(5.0, 2.0)), rng, begin=60, answered=False)
    assert floor.phase == "alarm"
    assert floor.status().alarms[-1].kind == "scores"
    assert course.student[-1] == 0.0
    assert "novelties moved" in floor.status().why


@pytest.mark.parametrize(("max_audits", "rate"), [(0.2, SETTINGS.shadow_rate), (0.085, SETTINGS.audit_rate)])
def test_after_an_alarm_more_is_audited_where_the_share_of_audits_leaves_room(max_audits: float, rate: float) -> None:
    rng = np.random.default_rng(1)
    floor = Floor(FloorSettings(alpha=ALPHA, max_audits=max_audits))
    floor.start(CalibrationSet.drawn(), 0.0)
    drive(floor, 60, steady(rng), rng)
    drive(floor, 3, lambda step: requests(rng, novelty=(5.0, 2.0)), rng, begin=60)
    assert floor.phase == "alarm"
    assert floor.audit_rate == rate


def test_after_an_alarm_fresh_audits_alone_make_the_new_calibration() -> None:
    floor, rng, before = started()
    course = drive(floor, 30, lambda step: requests(rng, harm=3.0, novelty=(5.0, 2.0)), rng, begin=60)
    assert "alarm" in course.phases
    assert floor.phase == "certified"
    assert course.student[-1] < before.student[-1] / 2


def test_what_was_lost_before_an_alarm_is_not_expected_after_it() -> None:
    floor, rng, _ = started()
    course = drive(floor, 30, lambda step: requests(rng, harm=0.0, novelty=(5.0, 2.0)), rng, begin=60)
    again = len(course.phases) - course.phases[::-1].index("alarm")
    assert course.student[again + 1] == 1.0


def test_labels_that_worsen_silently_ring_the_alarm_of_the_audits() -> None:
    floor, rng, _ = started()
    drive(floor, 60, lambda step: requests(rng, harm=3.0), rng, begin=60)
    assert "audits" in [alarm.kind for alarm in floor.status().alarms]


def test_audits_that_stay_away_stop_the_student_after_a_while() -> None:
    floor, rng, _ = started()
    course = drive(floor, 310, steady(rng), rng, begin=60, answered=False)
    assert floor.phase == "alarm"
    assert floor.status().alarms[-1].kind == "silence"
    assert course.student[int(SETTINGS.silent_s) - 5] > 0
    assert course.student[-1] == 0.0


def idle_and_back(floor: Floor, rng: np.random.Generator, idle_s: int, begin: int = 60) -> None:
    """A quiet spell, then traffic whose audits have not come back yet."""
    drive(floor, 8, steady(rng), rng, begin=begin + idle_s, answered=False)


def test_traffic_after_a_quiet_spell_has_not_been_silent_all_the_time() -> None:
    floor, rng, _ = started()
    idle_and_back(floor, rng, 3_600)
    assert floor.phase == "certified"
    idle_and_back(floor, rng, 3_600 + 100)  # the same, some requests being unheard already
    assert floor.phase == "certified"


def test_a_few_unheard_requests_before_a_quiet_spell_are_no_silence_after_it() -> None:
    floor, rng, _ = started()
    drive(floor, 2, steady(rng), rng, begin=60, answered=False)
    idle_and_back(floor, rng, 3_600, begin=62)
    assert floor.phase == "certified"


def test_audits_that_need_long_for_their_answers_are_not_silent() -> None:
    floor = Floor(SETTINGS)
    floor.start(CalibrationSet.drawn(), 0.0)
    rng = np.random.default_rng(1)
    drive(floor, 90, steady(rng), rng, answered=False)
    assert floor.phase == "certified"


def test_what_no_audit_could_tell_of_is_counted_apart() -> None:
    floor, _, _ = started()
    before = floor.status()
    floor.scored(Scored([0] * SCORE_BINS, [0] * NOVELTY_BINS, [0] * SCORE_BINS, uncovered=40), 61.0)
    after = floor.status()
    assert (before.uncovered, after.uncovered) == (0, 40)
    assert (after.requests, after.student_share, after.loss_estimate) == (
        before.requests,
        before.student_share,
        before.loss_estimate,
    )
    assert Floor.load(floor.dump()).status().uncovered == 40


def lumps(rng: np.random.Generator) -> Scored:
    """Ten requests that each stand for ten, the teacher serving."""
    few = requests(rng, size=10)
    return counts(
        Requests(*(np.repeat(each, 10) for each in (few.scores, few.novelties, few.losses))), np.zeros(100, bool)
    )


def test_requests_that_stand_for_others_are_no_reference() -> None:
    """A gate scores only audited requests in the shadow, each of which counts as often as it stands for others."""
    alarms = 0
    for seed in range(20):
        floor, rng = Floor(SETTINGS), np.random.default_rng([2, seed])
        while floor.phase != "certified":
            floor.scored(lumps(rng), 0.0)
            floor.audited([Audited(0.1, 0.0, 1.0, 0.0, False)] * 10)
        drive(floor, 12, steady(rng), rng)
        alarms += floor.status().rung["scores"]
    assert alarms == 0


def test_requests_that_stand_for_others_are_not_compared_while_nothing_may_be_lost() -> None:
    floor, rng = Floor(FloorSettings(alpha=1e-4)), np.random.default_rng(4)
    drive(floor, 30, steady(rng), rng)
    assert (floor.phase, floor.threshold) == ("certified", 0.0)
    for step in range(300):
        floor.scored(lumps(rng), 30.0 + step)
        floor.audited([Audited(0.1, 0.0, 1.0, 0.0, False)])
    assert floor.status().rung["scores"] == 0


def test_alarms_do_not_make_the_audits_more_than_their_share() -> None:
    floor, rng, course = started(steps=40)
    for begin in range(40, 200, 20):
        skew = (5.0, 2.0) if begin % 40 else (2.0, 5.0)
        more = drive(floor, 20, lambda step, skew=skew: requests(rng, novelty=skew), rng, begin=begin)  # type: ignore[misc]
        course.audits += more.audits
        course.requests += more.requests
    assert sum(floor.status().rung.values()) >= 3
    assert course.audits <= SETTINGS.max_audits * course.requests


@pytest.mark.parametrize("case", ["none", "abrupt", "silent"])
def test_the_loss_over_all_traffic_stays_below_alpha(case: str) -> None:
    held, shares = 0, []
    for seed in range(12):
        rng = np.random.default_rng([3, seed])

        def make(step: int, rng: np.random.Generator = rng) -> Requests:
            late = step >= 60
            return requests(
                rng,
                harm=2.0 if late and case != "none" else 1.0,
                novelty=(4.0, 3.0) if late and case == "abrupt" else (2.0, 5.0),
            )

        floor = Floor(SETTINGS)
        floor.start(CalibrationSet.drawn(seed=seed), 0.0)
        course = drive(floor, 120, make, rng)
        held += course.loss <= ALPHA
        shares.append(np.mean(course.student))
    assert held >= 10
    assert np.mean(shares) > 0.15


def test_a_score_that_tells_nothing_apart_is_served_part_of_the_time() -> None:
    rng = np.random.default_rng(5)

    def make(step: int) -> Requests:
        of = requests(rng)
        return Requests(np.full(len(of.scores), 0.15), of.novelties, of.losses)

    course = drive(Floor(SETTINGS), 200, make, rng)
    assert course.loss <= ALPHA
    assert 0.3 < np.mean(course.student) / (ALPHA / 0.15) <= 1.0


def test_net_losses_let_the_student_serve_more() -> None:
    shares = []
    for reverse in (0.0, 0.06):
        rng = np.random.default_rng(6)

        def make(step: int, reverse: float = reverse, rng: np.random.Generator = rng) -> Requests:
            of = requests(rng)
            return Requests(of.scores, of.novelties, np.where(rng.random(len(of.scores)) < reverse, -1.0, of.losses))

        shares.append(np.mean(drive(Floor(SETTINGS), 120, make, rng).student))
    assert shares[1] > shares[0] + 0.04


def test_the_status_speaks_of_all_traffic() -> None:
    floor, _, course = started(steps=100)
    status = floor.status()
    assert status.requests == course.requests
    assert status.student_share == pytest.approx(np.mean(course.student))
    assert status.loss_estimate < status.upper_bound
    assert status.loss_estimate == pytest.approx(course.loss, abs=0.015)
    assert 0 < status.allowed <= 1.5 * ALPHA
    assert status.threshold == floor.threshold


@settings(max_examples=8)
@given(st.integers(1, 60), st.sampled_from([1.0, 4.0]), st.booleans())
def test_a_restart_changes_nothing(at: int, harm: float, begun: bool) -> None:
    floor, rng = Floor(SETTINGS), np.random.default_rng(at)
    if begun:
        floor.start(CalibrationSet.drawn(), 0.0)
    drive(floor, at, steady(rng), rng)
    again = Floor.load(json.loads(json.dumps(floor.dump())))
    assert again.status() == floor.status()
    for each in (floor, again):
        same = np.random.default_rng(at + 1)
        drive(each, 30, lambda step, same=same: requests(same, harm=harm), same, begin=at)  # type: ignore[misc]
    assert again.dump() == floor.dump()


def test_a_state_of_another_format_is_refused() -> None:
    state = {**Floor(SETTINGS).dump(), "format": 0}
    with pytest.raises(ValueError, match="format 0"):
        Floor.load(state)


def test_histograms_of_other_bins_are_refused() -> None:
    with pytest.raises(ValueError, match=f"{SCORE_BINS} bins of scores"):
        Floor(SETTINGS).scored(Scored([1] * 3, [1] * NOVELTY_BINS, [0] * 3), 0.0)


def test_more_audits_than_allowed_are_refused_in_the_settings() -> None:
    with pytest.raises(ValueError, match="raise max_audits"):
        FloorSettings(audit_rate=0.2)


def test_alarms_are_counted_and_the_last_ones_told() -> None:
    floor, rng, _ = started(steps=40)
    for turn in range(10):
        skew = (2.0, 5.0) if turn % 2 else (5.0, 2.0)
        drive(floor, 20, lambda step, skew=skew: requests(rng, novelty=skew), rng, begin=40 + 20 * turn)  # type: ignore[misc]
    status = floor.status()
    assert len(status.alarms) == 3 < sum(status.rung.values())
    assert Floor.load(json.loads(json.dumps(floor.dump()))).status() == status


def test_a_stricter_alpha_is_a_promise_from_now_on() -> None:
    """What was lost under the old one is not held against it: the student serves again soon."""
    rng, floor = np.random.default_rng(3), Floor(FloorSettings(alpha=0.1))
    drive(floor, 300, steady(rng), rng)
    assert floor.status().loss_estimate > 0.06
    strict = Floor.load(floor.dump(), SETTINGS)
    assert (strict.phase, strict.status().requests, strict.status().audits) == ("certified", 0, 0)
    course = drive(strict, 60, steady(rng), rng, begin=300)
    assert np.mean(course.student) > 0.1


def test_settings_that_promise_the_same_leave_what_was_lost_standing() -> None:
    floor, _, course = started()
    again = Floor.load(floor.dump(), SETTINGS.model_copy(update={"window": 3_000}))
    assert again.settings.window == 3_000
    assert again.status().requests == course.requests
    assert again.status().loss_estimate == floor.status().loss_estimate


def test_a_looser_alpha_after_a_restart_takes_effect_at_once() -> None:
    floor, _, _ = started()
    looser = Floor.load(floor.dump(), FloorSettings(alpha=0.08))
    assert looser.threshold > floor.threshold


def test_an_audit_alone_does_not_serve_a_student() -> None:
    floor = Floor(SETTINGS)
    floor.audited([Audited(0.01, 0.0, 0.5, 0.0, False)] * 500)
    assert floor.threshold == 0.0
