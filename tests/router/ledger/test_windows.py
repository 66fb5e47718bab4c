"""When windows begin and end: in time zones whose clocks change, at the ends of months, and rolling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.budget_settings import Budget, rolling
from router.ledger.windows import PARTS, Window, window_at

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",  # half an hour off, clocks change
    "Australia/Lord_Howe",  # clocks change by half an hour
    "Asia/Kathmandu",  # 45 minutes off
    "America/Sao_Paulo",  # midnight was skipped
    "Africa/Casablanca",
    "Pacific/Apia",  # a day was skipped
    "Africa/Monrovia",  # seconds off until 1972
)
WINDOWS = ("hour", "day", "month")
ROLLING = ("1m", "90m", "24h", "7d", "366d")
moments = st.floats(4_000_000, 4_102_444_800, allow_nan=False)  # 1970 to 2100
zones = st.sampled_from(ZONES)


@cache
def budget(kind: str, zone: str) -> Budget:
    return Budget(window=kind, timezone=zone, limit_usd=1)


def window(kind: str, zone: str, now: float) -> Window:
    return window_at(budget(kind, zone), now)


def at(zone: str, *wall: int) -> float:
    return datetime(*wall, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[arg-type,misc]  # year, month, day, …


@settings(deadline=None)
@given(kind=st.sampled_from((*WINDOWS, *ROLLING)), zone=zones, now=moments)
@example(kind="day", zone="UTC", now=2051222399.9999995)
def test_now_lies_in_its_window_and_the_next_window_begins_where_it_ends(kind: str, zone: str, now: float) -> None:
    zone = "UTC" if rolling(kind) else zone
    this = window(kind, zone, now)
    assert this.start <= now < this.end
    assert window(kind, zone, this.end).start == this.end
    assert window(kind, zone, this.start) == this
    assert window(kind, zone, this.end - 0.001) == this
    assert window(kind, zone, this.start - 0.001).end == this.start


@settings(deadline=None)
@given(kind=st.sampled_from(WINDOWS), zone=zones, now=moments)
def test_a_calendar_window_begins_where_the_wall_clock_says_so(kind: str, zone: str, now: float) -> None:
    this = window(kind, zone, now)
    here, before = (datetime.fromtimestamp(t, ZoneInfo(zone)) for t in (this.start, this.start - 1))
    shown = {"hour": ("%Y%m%d%H",), "day": ("%Y%m%d",), "month": ("%Y%m",)}[kind][0]
    changed = here.utcoffset() != before.utcoffset()
    assert changed or (here.second == 0 and here.minute == 0)
    assert changed or here.strftime(shown) != before.strftime(shown)
    assert this.counted == (this.start,)
    assert this.rivals == ()


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23.0),
        ("Europe/Berlin", (2026, 10, 25), 25.0),
        ("Europe/Berlin", (2026, 7, 1), 24.0),
        ("America/St_Johns", (2026, 3, 8), 23.0),
        ("America/St_Johns", (2026, 11, 1), 25.0),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("Australia/Lord_Howe", (2026, 10, 4), 23.5),
    ],
)
def test_a_day_is_as_long_as_its_clocks_make_it(zone: str, day: tuple[int, int, int], hours: float) -> None:
    this = window("day", zone, at(zone, *day, 12))
    assert (this.end - this.start) / 3600 == hours
    assert this.start == at(zone, *day)


def test_a_day_whose_midnight_does_not_exist_begins_when_the_clock_jumps() -> None:
    this = window("day", "America/Sao_Paulo", at("America/Sao_Paulo", 2018, 11, 4, 12))
    assert datetime.fromtimestamp(this.start, ZoneInfo("America/Sao_Paulo")).hour == 1
    assert this.end - this.start == 23 * 3600


@pytest.mark.parametrize(
    ("month", "days"),
    [((2024, 2), 29), ((2026, 2), 28), ((2000, 2), 29), ((2100, 2), 28), ((2026, 12), 31), ((2026, 4), 30)],
)
def test_a_month_has_its_days(month: tuple[int, int], days: int) -> None:
    this = window("month", "UTC", at("UTC", *month, 27, 23, 59))
    assert this.end - this.start == days * 86_400
    assert datetime.fromtimestamp(this.start, UTC).day == 1


def test_a_month_in_which_the_clocks_change_is_an_hour_shorter() -> None:
    this = window("month", "Europe/Berlin", at("Europe/Berlin", 2026, 3, 31, 23))
    assert this.end - this.start == 31 * 86_400 - 3600


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns"])
def test_an_hour_begins_at_the_full_hour_of_its_zone(zone: str) -> None:
    this = window("hour", zone, at(zone, 2026, 11, 21, 13, 20))
    assert (this.start, this.end) == (at(zone, 2026, 11, 21, 13), at(zone, 2026, 11, 21, 14))


@settings(deadline=None)
@given(kind=st.sampled_from(ROLLING), now=moments)
def test_every_span_of_a_rolling_windows_length_lies_within_the_parts_that_are_counted(kind: str, now: float) -> None:
    length = rolling(kind)
    assert length is not None
    this = window(kind, "UTC", now)
    assert this.counted[-1] == this.start
    size = this.end - this.start
    assert {b - a for a, b in pairwise(this.counted)} == {size}
    assert this.counted[0] <= now - length.total_seconds() < this.counted[0] + size
    assert len(this.counted) == PARTS + 1


@settings(deadline=None)
@given(kind=st.sampled_from(ROLLING), now=moments)
def test_a_grant_counts_the_part_that_a_worker_whose_clock_is_ahead_may_be_in(kind: str, now: float) -> None:
    this = window(kind, "UTC", now)
    ahead = window(kind, "UTC", now + (this.end - this.start))
    assert ahead.start in this.rivals
    assert {*this.rivals, this.start} == {*this.counted, ahead.start}
    assert this.start not in this.rivals


@settings(deadline=None)
@given(kind=st.sampled_from(WINDOWS), zone=zones, now=moments)
def test_a_calendar_window_is_kept_for_days_after_its_end(kind: str, zone: str, now: float) -> None:
    this = window(kind, zone, now)
    assert this.forgotten > this.end + timedelta(days=1).total_seconds()


@settings(deadline=None)
@given(kind=st.sampled_from(ROLLING), now=moments)
def test_a_part_is_kept_as_long_as_it_counts(kind: str, now: float) -> None:
    this = window(kind, "UTC", now)
    last = this
    while this.start in (following := window(kind, "UTC", last.end)).counted:
        last = following
    assert this.forgotten > last.end + timedelta(days=1).total_seconds()
