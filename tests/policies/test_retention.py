"""What a worker sums, what the sums say, and that it stays true at every look on simulated traffic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.bounds import Interval
from policies.confidence import LEVELS, Row, level_of
from policies.retention import Figures, Rate, Sums, Tracker, figures, pairs_needed
from tests.support.retention_run import LOSS, NORMAL, NORMALISED, RETENTION, UNWEIGHTED, look, traffic

untimed = settings(deadline=None)

# A request: the probability, whether the student served it, whether it is drawn, and its result or none.
Request = tuple[float, bool, bool, float | None]
probabilities = st.sampled_from([0.0, 1e-12, 0.05, 0.3, 0.5, 1.0]) | st.floats(0, 1)
losses = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)
requests = st.lists(st.tuples(probabilities, st.booleans(), st.booleans(), st.none() | losses), max_size=40)


def track(tracker: Tracker, rows: Sequence[Request]) -> Tracker:
    for probability, served, drawn, loss in rows:
        tracker.seen(probability, served)
        if served and drawn and probability > 0:
            tracker.drawn(probability)
            if loss is not None:
                tracker.resolved(probability, loss)
    return tracker


def sums_of(rows: Sequence[Request]) -> Sums:
    return track(Tracker(), rows).take()


def said(loss: Sequence[Request] | Sums, noise: Sequence[Request] | Sums = (), min_pairs: int = 1) -> Figures:
    both = [one if isinstance(one, Sums) else sums_of(one) for one in (loss, noise)]
    return figures(both[0], both[1], confidence=0.95, min_pairs=min_pairs)


def known(rate: Rate | None) -> Rate:
    assert rate is not None
    return rate


def bounds(rate: Rate | None) -> list[float]:
    return [known(rate).interval.low, known(rate).interval.high]


@untimed
@given(st.lists(requests, max_size=4))
def test_the_sums_of_workers_add_up(workers: list[list[Request]]) -> None:
    together = sums_of([row for rows in workers for row in rows]).to_fields()
    added = sum((sums_of(rows) for rows in workers), Sums()).to_fields()
    assert added == pytest.approx(together)


@untimed
@given(requests, requests)
def test_what_is_taken_in_parts_adds_up(first: list[Request], second: list[Request]) -> None:
    tracker = track(Tracker(), first)
    part = tracker.take()
    rest = track(tracker, second).take()
    assert (part + rest).to_fields() == pytest.approx(sums_of(first + second).to_fields())
    assert tracker.take().to_fields() == {}


@untimed
@given(requests)
def test_each_request_is_counted_on_the_level_of_its_probability(rows: list[Request]) -> None:
    levels = Counter(level_of(probability) for probability, served, _, _ in rows if served)
    sums = sums_of([*rows, *reversed(rows)])
    assert list(sums.levels[Row.SERVED]) == [2 * levels[level] for level in range(LEVELS)]


def test_a_result_may_come_in_a_later_part_than_its_draw() -> None:
    tracker = Tracker()
    tracker.seen(0.5, True)
    tracker.drawn(0.5)
    part = tracker.take()
    assert said(part).unresolved == 1
    tracker.resolved(0.5, 1.0)
    assert (part + tracker.take()).to_fields() == sums_of([(0.5, True, True, 1.0)]).to_fields()


@untimed
@given(requests)
def test_sums_survive_their_flat_form(rows: list[Request]) -> None:
    sums = sums_of(rows)
    fields = sums.to_fields()
    assert all(fields.values())
    assert Sums.from_fields(fields).to_fields() == fields


@pytest.mark.parametrize("name", ["served", "all|served", "3|requests", "33|served", "-1|served", "²|served", "3|", ""])
def test_a_sum_that_is_unknown_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="no sum of a retention sequence"):
        Sums.from_fields({name: 1.0})


@pytest.mark.parametrize("probability", [-0.5, 1.5, math.nan])
def test_impossible_probabilities_are_refused_and_leave_the_sums_alone(probability: float) -> None:
    tracker = Tracker()
    with pytest.raises(ValueError, match="probability"):
        tracker.seen(probability, True)
    with pytest.raises(ValueError, match="probability"):
        tracker.drawn(probability)
    with pytest.raises(ValueError, match="probability"):
        tracker.resolved(probability, 1.0)
    assert tracker.take().to_fields() == {}


def test_impossible_draws_and_losses_are_refused() -> None:
    tracker = Tracker()
    with pytest.raises(ValueError, match="cannot have been drawn"):
        tracker.drawn(0.0)
    for loss in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="loss"):
            tracker.resolved(0.5, loss)
    assert tracker.take().to_fields() == {}


def test_without_requests_there_is_no_figure() -> None:
    nothing = said([])
    assert nothing.route_loss is None
    assert nothing.student_retention is None
    assert nothing.teacher_noise is None
    assert nothing.normalised_retention is None
    assert not nothing.enough


def test_a_route_served_by_the_teacher_alone_loses_nothing_and_says_nothing_of_the_student() -> None:
    figure = said([(0.05, False, False, None)] * 100)
    assert figure.route_loss == Rate(0.0, 0.0, Interval(0.0, 0.0))
    assert figure.student_retention is None
    assert (figure.requests, figure.served) == (100, 0)


def test_where_everything_is_compared_the_interval_is_the_share_itself() -> None:
    rows: list[Request] = [(1.0, number % 4 != 0, True, float(number % 10 == 1)) for number in range(400)]
    harmful = sum(served and bool(loss) for _, served, _, loss in rows)
    figure = said(rows)
    assert bounds(figure.route_loss) == pytest.approx([harmful / 400] * 2)
    assert bounds(figure.student_retention) == pytest.approx([1 - harmful / 300] * 2)


def test_estimates_weigh_each_pair_by_its_inverse_probability() -> None:
    rows: list[Request] = [
        (0.1, True, True, 1.0),
        (0.5, True, True, 0.0),
        *[(0.1, True, False, None)] * 18,
        *[(0.5, False, False, None)] * 20,
    ]
    figure = said(rows)
    assert known(figure.student_retention).estimate == pytest.approx(1 - 10 / 12)
    assert known(figure.student_retention).horvitz_thompson == pytest.approx(1 - 10 / 20)
    assert known(figure.route_loss).estimate == pytest.approx(10 / 12 / 2)
    assert known(figure.route_loss).horvitz_thompson == pytest.approx(10 / 40)
    assert figure.effective_pairs == pytest.approx(144 / 104)
    assert (figure.requests, figure.served, figure.pairs) == (40, 20, 2)


def test_what_failed_is_counted_and_taken_for_harmful_and_for_harmless() -> None:
    tracker = track(Tracker(), [(1.0, True, True, 0.0)] * 6 + [(1.0, True, True, None)] * 4)
    for _ in range(3):
        tracker.failed()
    figure = said(tracker.take())
    assert (figure.pairs, figure.unresolved, figure.failed) == (6, 4, 3)
    assert bounds(figure.route_loss) == pytest.approx([0.0, 0.4])


def test_below_the_floor_the_figures_are_not_enough() -> None:
    rows: list[Request] = [(0.5, True, True, 0.0)] * 50
    assert said(rows, min_pairs=50).enough
    assert not said(rows, min_pairs=51).enough


def test_without_second_draws_nothing_is_normalised() -> None:
    figure = said([(0.5, True, True, 0.0)] * 50, [(0.1, True, False, None)] * 50)
    assert figure.teacher_noise is None
    assert figure.normalised_retention is None


def test_a_student_as_steady_as_its_teacher_has_lost_nothing() -> None:
    pair: list[Request] = [(1.0, True, True, float(number < 20)) for number in range(100)]
    steadier: list[Request] = [(1.0, True, True, float(number < 10)) for number in range(100)]
    assert bounds(said(pair, pair).normalised_retention) == pytest.approx([1.0, 1.0])
    assert bounds(said(steadier, pair).normalised_retention) == pytest.approx([1.0, 1.0])
    assert bounds(said(pair, steadier).normalised_retention) == pytest.approx([0.8 / 0.9] * 2)
    all_noise: list[Request] = [(1.0, True, True, 1.0)] * 100
    assert bounds(said(pair, all_noise).normalised_retention) == [1.0, 1.0]


@untimed
@given(requests, requests)
def test_intervals_are_shares_and_hold_their_estimates(loss: list[Request], noise: list[Request]) -> None:
    figure = said(loss, noise)
    assert figure.effective_pairs <= figure.pairs * (1 + 1e-9)
    for rate in (figure.route_loss, figure.student_retention, figure.teacher_noise, figure.normalised_retention):
        if rate is not None:
            low, high = bounds(rate)
            assert -1e-9 <= low <= high + 1e-9 <= 1 + 2e-9
            assert -1e-9 <= rate.horvitz_thompson <= 1 + 1e-9
            assert rate.estimate is None or -1e-9 <= rate.estimate <= 1 + 1e-9
    if figure.route_loss is not None:
        assert bounds(figure.route_loss)[0] <= figure.route_loss.horvitz_thompson + 1e-9


def test_failures_in_place_of_results_widen_both_sides() -> None:
    rows: list[Request] = [(0.4, True, number % 5 < 2, float(number % 10 == 0)) for number in range(1000)]
    failing = [(row[0], row[1], row[2], None if number % 50 < 2 else row[3]) for number, row in enumerate(rows)]
    low, high = bounds(said(rows).student_retention)
    wider = bounds(said(failing).student_retention)
    assert wider[0] < low - 0.01
    assert wider[1] > high + 0.01


def sampled(pairs: int, probability: float, rate: float) -> Sums:
    """Traffic as it is on average."""
    rng = np.random.default_rng(pairs)
    harmful = rng.permutation(pairs) < rate * pairs
    tracker = Tracker()
    for loss in harmful:
        for number in range(round(1 / probability)):
            tracker.seen(probability, True)
            if number == 0:
                tracker.drawn(probability)
                tracker.resolved(probability, float(loss))
    return tracker.take()


@pytest.mark.parametrize(("probability", "rate"), [(0.5, 0.1), (0.1, 0.05), (0.05, 0.02)])
def test_the_pairs_said_to_be_needed_are_about_right(probability: float, rate: float) -> None:
    so_far = sampled(400, probability, rate)
    more = pairs_needed(so_far, 0.02, 0.95)
    assert more is not None and more > 0
    low, high = bounds(said(sampled(400 + more, probability, rate)).student_retention)
    assert (high - low) / 2 == pytest.approx(0.02, rel=0.1)


def test_no_more_pairs_are_needed_where_the_interval_is_narrow_enough() -> None:
    assert pairs_needed(sampled(5000, 0.5, 0.05), 0.05, 0.95) == 0


def test_pairs_can_be_asked_for_before_the_first() -> None:
    more = pairs_needed(sums_of([(0.1, True, False, None)] * 10), 0.05, 0.95)
    assert more is not None and 1000 < more < 10_000


def test_no_number_of_pairs_helps_where_too_many_fail_or_nobody_looks() -> None:
    failing = track(Tracker(), [(0.5, True, True, 0.0)] * 90 + [(0.5, True, True, None)] * 10)
    for _ in range(10):
        failing.failed()
    assert pairs_needed(failing.take(), 0.01, 0.95) is None
    assert pairs_needed(sums_of([(0.0, True, False, None)] * 10 + [(0.5, True, True, 0.0)] * 10), 0.05, 0.95) is None
    assert pairs_needed(Sums(), 0.05, 0.95) is None


def test_the_intervals_hold_at_every_look_where_the_naive_mean_is_far_off() -> None:
    runs = [look(traffic(np.random.default_rng([7, number]), 8000), 10, 0.05) for number in range(40)]
    for name in (LOSS, RETENTION, NORMALISED):
        assert sum(bool(run.covers(name).all()) for run in runs) >= 38, name
    assert min(run.naive[-1] / (1 - run.true[RETENTION][-1]) for run in runs) > 2
    for name in (RETENTION + UNWEIGHTED, RETENTION + NORMAL):
        assert sum(bool(run.covers(name).all()) for run in runs) < 20, name


def test_the_sums_of_the_simulation_are_those_of_a_tracker() -> None:
    run = traffic(np.random.default_rng(3), 2000)
    tracker = Tracker()
    for number in range(2000):
        probability = float(run.probability[number])
        tracker.seen(probability, bool(run.served[number]))
        if run.drawn[number]:
            tracker.drawn(probability)
            if run.result_at[number] < 2000:
                tracker.resolved(probability, float(run.harmful[number]))
    last = [side[-1] for side in look(run, 10, 0.05).intervals[RETENTION]]
    assert bounds(said(tracker.take()).student_retention) == pytest.approx(last)
