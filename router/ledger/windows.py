"""When a budget's window begins and ends: calendar hours, days and months in a time zone, and rolling windows.

A rolling window is counted in twentieths of its length. What was reserved in a part counts until the whole part has
left the window, so that no span of the window's length ever holds more than the limit; money comes back up to a
twentieth later than it could.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from router.budget_settings import Budget, rolling

PARTS = 20


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to `end` (Unix seconds) one lease serves; `counted`: starts of all parts that share the limit."""

    start: int
    end: int
    counted: tuple[int, ...]

    @property
    def rivals(self) -> tuple[int, ...]:
        """Starts of the other parts that a grant counts. The next one is among them: clocks of workers differ, and a
        worker ahead may have leased there already. They may differ by a part."""
        following = (self.end,) if len(self.counted) > 1 else ()
        return tuple(start for start in self.counted if start != self.start) + following

    @property
    def forgotten(self) -> int:
        """When nothing needs the window any more (Unix seconds): a while after it counts for no limit."""
        return self.end + (self.end - self.start) * len(self.counted) + KEPT_S


KEPT_S = 2 * 86_400


def window_at(budget: Budget, now: float) -> Window:
    """The window (of a rolling one: the part) that `now` falls into."""
    length = rolling(budget.window)
    if length is not None:
        return _part(int(length.total_seconds()) // PARTS, now)
    start, end = _calendar(budget.window, budget.zone, now)
    return Window(start, end, (start,))


def _part(size: int, now: float) -> Window:
    index = int(now // size)
    counted = tuple(size * number for number in range(index - PARTS, index + 1))
    return Window(size * index, size * (index + 1), counted)


def _calendar(window: str, zone: ZoneInfo, now: float) -> tuple[int, int]:
    local = datetime.fromtimestamp(int(now), zone)  # windows begin at whole seconds; rounding would reach the next one
    if window == "hour":
        offset = local.utcoffset() or timedelta()
        shift = int(offset.total_seconds())
        start = (int(now) + shift) // 3600 * 3600 - shift
        return start, start + 3600
    midnight = datetime(local.year, local.month, local.day if window == "day" else 1, tzinfo=zone)
    if window == "day":
        following = midnight + timedelta(days=1)  # of the wall clock: 23 or 25 hours when the clock changes
    else:
        following = midnight.replace(year=midnight.year + midnight.month // 12, month=midnight.month % 12 + 1)
    return int(midnight.timestamp()), int(following.timestamp())
