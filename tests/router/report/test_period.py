"""`--since`, `--until`, `--timezone`: what is understood, and what is refused with what is allowed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from router.errors import ConfigError
from router.report.period import parse_period

NOW = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC).timestamp()


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> float:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "since, timezone, start",
    [
        ("7d", "UTC", at(2026, 11, 14, 12)),
        ("24h", "UTC", at(2026, 11, 20, 12)),
        ("2w", "UTC", at(2026, 11, 7, 12)),
        ("2026-11-01", "UTC", at(2026, 11, 1)),
        ("2026-11-01", "Europe/Berlin", at(2026, 10, 31, 23)),
        ("2026-11-01T09:30", "Asia/Kolkata", at(2026, 11, 1, 4)),
        ("2026-11-01T09:30:00+02:00", "UTC", at(2026, 11, 1, 7, 30)),
    ],
)
def test_since_is_a_length_that_begins_at_a_full_hour_or_a_date(since: str, timezone: str, start: float) -> None:
    period = parse_period(since, None, timezone, NOW)
    assert (period.start, period.end) == (start, NOW)


def test_until_ends_the_period_before_it() -> None:
    period = parse_period("2026-11-01", "2026-11-08", "UTC", NOW)
    assert at(2026, 11, 7, 23, 59, 59) in period
    assert at(2026, 11, 8) not in period
    assert period.hours() == range(int(at(2026, 11, 1)), int(at(2026, 11, 8)), 3600)


def test_nothing_is_expected_of_the_future() -> None:
    assert parse_period("7d", "2099-01-01", "UTC", NOW).end == NOW


def test_only_hours_that_begin_in_the_period_are_compared_the_running_one_too() -> None:
    hours = parse_period("2026-11-21T09:30", None, "UTC", NOW).hours()
    assert (hours[0], hours[-1]) == (at(2026, 11, 21, 10), at(2026, 11, 21, 12))


@pytest.mark.parametrize(
    "since, until, timezone, says",
    [
        ("7 days", None, "UTC", "--since 7 days: not understood; allowed are hours, days or weeks back (24h, 7d, 4w)"),
        ("", None, "UTC", "allowed are"),
        ("0d", None, "UTC", "allowed are"),
        ("-7d", None, "UTC", "allowed are"),
        ("2026-13-01", None, "UTC", "allowed are"),
        ("0001-01-01T00:00:00+14:00", None, "UTC", "at most 3660d"),
        ("1001-01-01", None, "UTC", "at most 3660d"),
        ("99999d", None, "UTC", "at most 3660d"),
        ("7d", "yesterday", "UTC", "--until yesterday: not understood"),
        ("2026-11-08", "2026-11-01", "UTC", "begins after its end; --until is 2026-11-01"),
        ("2026-12-01", None, "UTC", "is in the future"),
        ("7d", None, "Berlin", "--timezone Berlin: unknown; expected a name such as UTC or Europe/Berlin"),
    ],
)
def test_what_is_not_understood_is_refused(since: str, until: str | None, timezone: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_period(since, until, timezone, NOW)
    assert says in str(refused.value)
