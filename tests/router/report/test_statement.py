"""Rows added up: every column of every grouping adds up to the rows, and money stays where it belongs."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.record.row import VERSION, DecisionRow, RowCharge
from router.report.period import Period
from router.report.ratio import Ratio
from router.report.statement import DIMENSIONS, Dimension, Statement
from tests.router.report.made import DAY_S, ROWS, START, TEACHERS, served, shadow

WEEK = Period(START, START + 2 * DAY_S, ZoneInfo("UTC"))
RATIOS = {"auto": Ratio(50, 48.0, 1.1, 0.02), "half": Ratio(3)}


def statement(rows: list[DecisionRow], *by: Dimension, period: Period = WEEK) -> Statement:
    made = Statement(period, by, TEACHERS)
    for row in rows:
        made.add(row)
    return made


@given(ROWS, st.sets(st.sampled_from(DIMENSIONS)))
def test_every_grouping_adds_up_to_the_rows(rows: list[DecisionRow], by: set[Dimension]) -> None:
    counted = [row for row in rows if row.t in WEEK]
    made = statement(rows, *by)
    for lines in (made.lines(RATIOS), [made.total(RATIOS)], list(made.grouped(("day", "route"), RATIOS))):
        sums = [line.sums for line in lines]
        assert sum(one.cost_nano for one in sums) == sum(sum(row.c.values()) for row in counted)
        assert sum(one.calls for one in sums) == sum(len(row.ch) for row in counted)
        assert sum(one.requests for one in sums) == sum(row.o != "shadow" for row in counted)
        tokens = [sum(values) for values in zip(*(row.tok for row in counted), strict=True)] or [0] * 4
        for name, wanted in zip(("input", "cached_input", "output", "reasoning"), tokens, strict=True):
            assert sum(getattr(one, name) for one in sums) == wanted
        alone = sum(one.measured_nano + sum(one.student_nano.values()) for one in sums)
        assert alone == sum(row.to for row in counted if row.o != "shadow")


@given(ROWS)
def test_an_interval_is_given_exactly_where_all_estimates_can_be_corrected(rows: list[DecisionRow]) -> None:
    for line in statement(rows, *DIMENSIONS).lines(RATIOS):
        alone = line.teacher_only
        if any(route != "auto" for route in line.sums.student_nano):
            assert alone.interval_nano is None
        else:
            assert alone.interval_nano is not None
            low, high = alone.interval_nano
            assert low <= alone.nano <= high
            assert (low == high) or line.sums.student_nano


def test_a_line_says_what_it_adds_to_the_savings_and_audits_only_cost() -> None:
    rows = [served(1, START), served(2, START, "teacher"), shadow(1, START + 1)]
    lines = {line.key: line for line in statement(rows, "model", "origin").lines({})}
    assert lines["student", "serve"].net_savings_nano == 280_000 - 28_000
    assert lines["teacher", "serve"].net_savings_nano == 0
    assert lines["teacher", "shadow"].net_savings_nano == -300_000
    assert statement(rows).total({}).net_savings_nano == 560_000 - 608_000


def test_estimates_are_corrected_by_their_routes_ratio_and_what_the_teacher_served_is_not() -> None:
    rows = [served(1, START), served(2, START, "teacher"), served(3, START, route="half")]
    made = statement(rows, "route")
    auto, half = made.lines(RATIOS)
    assert auto.teacher_only.nano == 280_000 + 308_000
    assert auto.teacher_only.margin_nano == round(0.02 * 280_000)
    assert auto.teacher_only.estimated_share == pytest.approx(308 / 588)
    assert (half.teacher_only.nano, half.teacher_only.margin_nano) == (280_000, None)
    assert made.total(RATIOS).teacher_only.margin_nano is None


def test_days_are_those_of_the_time_zone() -> None:
    rows = [served(1, START - 3600), served(2, START + 1800), served(3, START + DAY_S - 1800)]
    for zone, days in (
        ("UTC", ["2026-11-22", "2026-11-23"]),
        ("Europe/Berlin", ["2026-11-23", "2026-11-24"]),
        ("Asia/Kathmandu", ["2026-11-23", "2026-11-24"]),
        ("America/New_York", ["2026-11-22", "2026-11-23"]),
    ):
        period = Period(START - DAY_S, START + DAY_S, ZoneInfo(zone))
        assert [line.key for line in statement(rows, "day", period=period).lines({})] == [(day,) for day in days]


def test_a_request_that_no_model_answered_counts_as_a_request() -> None:
    row = DecisionRow(VERSION, "1", START, "chat", tn="acme", o="rejected", st=429)
    (line,) = statement([row], "model", "origin").lines({})
    assert (line.key, line.sums.requests, line.sums.calls) == (("", ""), 1, 0)


def test_a_client_that_hung_up_on_the_teacher_is_measured() -> None:
    row = DecisionRow(
        VERSION, "1", START, "chat", rt="auto", o="cancelled", to=50, ch=[RowCharge("cancelled", "teacher", 50)]
    )
    assert statement([row]).total({}).sums.measured_nano == 50
