"""The forecast of requests to come."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.control.traffic import DAY_S, HOUR_S, Traffic

DAYS = 4 * 7  # what is observed begins on day 0 of the epoch


def observed(rate_at: object, days: float, step_s: float = 450.0) -> Traffic:
    """Traffic that saw `rate_at(time)` requests a second for so many days."""
    assert callable(rate_at)
    traffic = Traffic()
    traffic.observe(0.0, 0.0)
    for step in range(1, round(days * DAY_S / step_s) + 1):
        traffic.observe(step * step_s, rate_at((step - 0.5) * step_s) * step_s)
    return traffic


def by_day(at_s: float) -> float:
    return 3.0 if 8 * HOUR_S <= at_s % DAY_S < 20 * HOUR_S else 1.0


def by_week(at_s: float) -> float:
    return by_day(at_s) * (0.5 if at_s // DAY_S % 7 in (2, 3) else 1.0)


def test_nothing_is_forecast_before_anything_was_seen() -> None:
    assert Traffic().forecast(0.0, DAY_S) == 0.0


def test_the_first_hours_are_taken_for_the_rest_of_the_day() -> None:
    traffic = observed(lambda at_s: 2.0, days=0.25)
    assert traffic.forecast(DAY_S / 4, DAY_S) == pytest.approx(2.0 * 0.75 * DAY_S)


def test_the_hours_of_earlier_days_are_expected_again() -> None:
    traffic = observed(by_day, days=3)
    night, day = traffic.forecast(3 * DAY_S, 3 * DAY_S + 8 * HOUR_S), traffic.forecast(3 * DAY_S, 4 * DAY_S)
    assert night == pytest.approx(8 * HOUR_S, rel=0.1)
    assert day == pytest.approx((12 * 3 + 12) * HOUR_S, rel=0.1)


def test_a_weekend_is_expected_to_be_a_weekend() -> None:
    traffic = observed(by_week, days=DAYS)
    weekday, weekend = (traffic.forecast(DAYS * DAY_S + n * DAY_S, DAYS * DAY_S + (n + 1) * DAY_S) for n in (0, 2))
    assert weekend / weekday == pytest.approx(0.5, abs=0.1)


def test_what_is_off_the_profile_now_is_expected_to_fade() -> None:
    traffic = observed(lambda at_s: 2.0 if at_s > 7 * DAY_S else 1.0, days=7.5)
    now = 7.5 * DAY_S
    soon, later = traffic.forecast(now, now + HOUR_S) / HOUR_S, traffic.forecast(now, now + 2 * DAY_S) / (2 * DAY_S)
    assert 1.5 < soon < 2.1
    assert 1.0 < later < soon


def test_hours_that_differ_from_day_to_day_are_no_habit() -> None:
    """Each day another hour has all the traffic: a month later no hour is expected to."""
    traffic = observed(lambda at_s: 24.0 if at_s // HOUR_S % 24 == at_s // DAY_S * 7 % 24 else 0.0, days=DAYS)
    hours = [traffic.forecast(DAYS * DAY_S + n * HOUR_S, DAYS * DAY_S + (n + 1) * HOUR_S) / HOUR_S for n in range(24)]
    assert max(hours) < 1.2 * min(hours)


@given(st.lists(st.tuples(st.floats(0, 10_000), st.floats(0, 1e6)), max_size=60), st.floats(0, 40 * DAY_S))
def test_a_forecast_is_never_negative_and_survives_being_dumped(
    came: list[tuple[float, float]], ahead_s: float
) -> None:
    traffic, now = Traffic(), 1e9
    for span, requests in came:
        now += span
        traffic.observe(now, requests)
    again = Traffic.load(json.loads(json.dumps(traffic.dump())))
    assert traffic.forecast(now, now + ahead_s) >= 0.0
    assert again.forecast(now, now + ahead_s) == traffic.forecast(now, now + ahead_s)


def test_a_clock_that_goes_back_changes_nothing() -> None:
    traffic = observed(by_day, days=2)
    before = traffic.forecast(2 * DAY_S, 3 * DAY_S)
    traffic.observe(1.5 * DAY_S, 1e9)
    assert traffic.forecast(2 * DAY_S, 3 * DAY_S) == before


@pytest.mark.parametrize("away_s", [0.4 * HOUR_S, 8 * HOUR_S])
def test_time_in_which_nobody_counted_is_no_time_without_requests(away_s: float) -> None:
    traffic, now = observed(lambda at_s: 1.0, days=4), 4 * DAY_S + away_s
    traffic.observe(now, 0.0)
    assert traffic.forecast(now, now + 12 * HOUR_S) == pytest.approx(12 * HOUR_S, rel=0.01)
    traffic.observe(now + 60, 60.0)  # and from then on they count again
    assert traffic.mean_rate == pytest.approx(1.0)
