"""The books compared to the nano-dollar; what grows meanwhile and what was trimmed is told apart from what is wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.ledger.gpu import GPU_BILL_ORIGIN
from router.ledger.names import HOUR_S, hour_field
from router.record.row import DecisionRow
from router.report.books import (
    CountedRows,
    Counters,
    Field,
    HourlyRows,
    HourlySums,
    Series,
    add_up,
    compare_counters,
    compare_hours,
    gpu_bills,
)
from tests.router.report.made import DAY_S, ROWS, START, TEACHERS, served, sums_of

HOURS = range(int(START), int(START) + 2 * DAY_S, HOUR_S)
HOUR = int(START)
NAME: Field = ("auto", "acme", "ci", "teacher", "serve")
COST: Series = ("cost_usd_total", ("auto", "acme", "teacher", "serve"))


def hourly(rows: list[DecisionRow]) -> HourlySums:
    made = HourlyRows(HOURS)
    for row in rows:
        made.add(row)
    return made.sums


@given(ROWS, st.integers(1, 4))
def test_the_ledgers_sums_of_any_number_of_workers_equal_the_rows(rows: list[DecisionRow], workers: int) -> None:
    fields: dict[int, list[tuple[str, int]]] = {}
    for worker in range(workers):
        for hour, sums in sums_of(rows[worker::workers], f"w{worker}").items():
            fields.setdefault(hour, []).extend(sums.items())
    redis = {hour: add_up(of_hour) for hour, of_hour in fields.items() if hour in HOURS}
    verdict = compare_hours(hourly(rows), redis, redis, None)
    assert verdict.differences == () and verdict.in_motion == 0 and verdict.unreachable == ()
    money = {int(row.t) // HOUR_S * HOUR_S for row in rows if sum(row.c.values()) or row.to}
    assert verdict.compared == len(money & set(HOURS))


def test_a_nano_dollar_is_a_difference() -> None:
    verdict = compare_hours({HOUR: {NAME: 5}}, {HOUR: {NAME: 6}}, {HOUR: {NAME: 6}}, None)
    (difference,) = verdict.differences
    assert (difference.hour, difference.name, difference.rows_nano, difference.sums_nano) == (HOUR, NAME, 5, 6)


def test_a_sum_that_only_one_side_has_is_a_difference() -> None:
    for rows, sums in (({}, {HOUR: {NAME: 6}}), ({HOUR: {NAME: 6}}, {})):
        assert len(compare_hours(rows, sums, sums, None).differences) == 1


def test_rows_that_lie_between_two_readings_of_the_sums_are_in_motion() -> None:
    rows: HourlySums = {HOUR: {NAME: 7}}
    assert compare_hours(rows, {HOUR: {NAME: 5}}, {HOUR: {NAME: 9}}, None).in_motion == 1
    assert compare_hours(rows, {}, {HOUR: {NAME: 9}}, None).in_motion == 1
    for before, after in ((8, 9), (5, 6)):
        verdict = compare_hours(rows, {HOUR: {NAME: before}}, {HOUR: {NAME: after}}, None)
        assert len(verdict.differences) == 1 and verdict.in_motion == 0


def test_hours_whose_rows_were_trimmed_are_not_compared_but_never_have_more_in_rows() -> None:
    oldest = HOUR + HOUR_S / 2
    sums: HourlySums = {HOUR: {NAME: 9}, HOUR - HOUR_S: {NAME: 9}, HOUR + HOUR_S: {NAME: 9}}
    rows: HourlySums = {HOUR: {NAME: 4}, HOUR + HOUR_S: {NAME: 9}}
    verdict = compare_hours(rows, sums, sums, oldest)
    assert (verdict.compared, verdict.unreachable, verdict.differences) == (1, (HOUR - HOUR_S, HOUR), ())
    rows[HOUR] = {NAME: 10}
    assert len(compare_hours(rows, sums, sums, oldest).differences) == 1
    rows[HOUR], rows[HOUR + HOUR_S] = {NAME: 4}, {NAME: 4}
    assert len(compare_hours(rows, sums, sums, oldest).differences) == 1


def test_counters_may_differ_by_what_floats_lose() -> None:
    counters = Counters({COST: 0.1 + 0.2})
    assert compare_counters({COST: 300_000_000}, counters, counters).differences == ()
    counters = Counters({COST: 0.3 * (1 + 3e-9)})
    assert len(compare_counters({COST: 300_000_000}, counters, counters).differences) == 1


def test_counters_that_grow_while_they_are_read_are_in_motion() -> None:
    verdict = compare_counters({COST: 300_000_000}, Counters({COST: 0.2}), Counters({COST: 0.4}))
    assert (verdict.compared, verdict.in_motion, verdict.differences) == (1, 1, ())


def test_counters_are_compared_with_the_rows_since_they_began() -> None:
    counted = CountedRows(START, TEACHERS)
    for row in (served(1, START - 1), served(2, START), served(3, START, "teacher")):
        counted.add(row)
    assert counted.nano == {
        ("cost_usd_total", ("auto", "acme", "student", "serve")): 28_000,
        ("cost_usd_total", ("auto", "acme", "teacher", "serve")): 280_000,
        ("teacher_only_cost_usd_total", ("auto", "acme", "estimated")): 280_000,
        ("teacher_only_cost_usd_total", ("auto", "acme", "measured")): 280_000,
    }


def test_gpus_have_a_bill_and_an_idle_part_outside_of_the_comparison() -> None:
    of_hour = {hour_field("", "", "", "", "student", GPU_BILL_ORIGIN): 2_000_000, **sums_of([served(1, START)])[HOUR]}
    sums: HourlySums = {HOUR: add_up(of_hour.items())}
    assert compare_hours(hourly([served(1, START)]), sums, sums, None).differences == ()
    (bill,) = gpu_bills(sums, lambda hour: "today")
    assert (bill.day, bill.model, bill.bill_nano, bill.attributed_nano) == ("today", "student", 2_000_000, 28_000)
    assert bill.idle_nano == 1_972_000


def test_what_was_charged_by_the_token_before_a_model_had_gpus_is_not_taken_from_their_bill() -> None:
    student: Field = ("auto", "acme", "ci", "student", "serve")
    machine: Field = ("", "", "", "student", GPU_BILL_ORIGIN)
    sums: HourlySums = {HOUR: {student: 900}, HOUR + HOUR_S: {student: 30, machine: 100, NAME: 5}}
    (bill,) = gpu_bills(sums, lambda hour: "today")
    assert (bill.model, bill.bill_nano, bill.attributed_nano, bill.idle_nano) == ("student", 100, 30, 70)
