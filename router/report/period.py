"""The time that a statement covers: `--since`, `--until` and `--timezone` as a person types them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from router.errors import ConfigError

HOUR_S = 3600
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
LONGEST = timedelta(days=3660)
ALLOWED = "allowed are hours, days or weeks back (24h, 7d, 4w) and dates (2026-11-01, 2026-11-01T09:00)"


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` to before `end`, Unix seconds; days are those of `zone`."""

    start: float
    end: float
    zone: ZoneInfo

    def __contains__(self, time: float) -> bool:
        return self.start <= time < self.end

    def __str__(self) -> str:
        start, end = (datetime.fromtimestamp(time, self.zone) for time in (self.start, self.end))
        return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} {self.zone.key}"

    def hours(self) -> range:
        """Unix times at which the hours (of UTC) begin that lie in the period with their beginning."""
        return range(-int(-self.start // HOUR_S) * HOUR_S, -int(-self.end // HOUR_S) * HOUR_S, HOUR_S)


def parse_period(since: str, until: str | None, timezone: str, now: float) -> Period:
    """What the options say. What is counted back from now begins at a full hour, so that hourly sums compare.

    Raises ConfigError that says what is allowed.
    """
    if timezone not in available_timezones():
        raise ConfigError(f"--timezone {timezone}: unknown; expected a name such as UTC or Europe/Berlin")
    zone = ZoneInfo(timezone)
    start = _moment("--since", since, zone, now)
    end = now if until is None else min(now, _moment("--until", until, zone, now))
    if not start < end:
        problem = "is in the future" if until is None else f"begins after its end; --until is {until}"
        raise ConfigError(f"--since {since}: {problem}")
    return Period(start, end, zone)


def _moment(option: str, text: str, zone: ZoneInfo, now: float) -> float:
    match = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text)
    if match is None:
        moment = _date(option, text, zone)
    else:
        moment = (now - (int(match[1]) * UNITS[match[2]]).total_seconds()) // HOUR_S * HOUR_S
    if moment < now - LONGEST.total_seconds() - HOUR_S:
        raise ConfigError(f"{option} {text}: too long ago; at most {LONGEST.days}d")
    return moment


def _date(option: str, text: str, zone: ZoneInfo) -> float:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(f"{option} {text}: not understood; {ALLOWED}") from None
