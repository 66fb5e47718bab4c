"""How many requests are to come: the mean rate, by hour of the day and day of the week, and how far it is off of late.

An hour of the day is drawn towards the mean of all hours as far as its own visits differ from each other (empirical
Bayes: variance within the hour against between hours), and a day of the week towards all days, so that bursts are not
taken for a habit. Hours and days are UTC's. What traffic is off the profile now is expected to fade away.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any, Final

import numpy as np

from policies.bounds import Floats

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
DAYS: Final = 7
HOURS: Final = 24
VISITS: Final = 2.0  # of an hour of the week that are remembered
MEAN_S: Final = 7 * DAY_S
DAY_WEIGHT: Final = 0.5  # days of observation that the draw of a day of the week towards all days weighs
LEAST_DRAW: Final = 0.1  # hours of observation that the draw of an hour towards all hours weighs at least
MOST_DRAW: Final = 1e3
RECENT_S: Final = 6 * HOUR_S
REACH_S: Final = 12 * HOUR_S
MOST_GAP_S: Final = 600.0  # without a call for so long, nobody counted: nothing is known of that time


class Traffic:
    """Requests a second, forecast. `observe` in the order of time; Unix seconds."""

    def __init__(self) -> None:
        # Of each hour of the week, faded: requests, hours observed, and requests squared per hour.
        self._slots: Floats = np.zeros((DAYS, HOURS, 3))
        self._current: Floats = np.zeros(2)  # requests and seconds of the hour that is going on
        self._mean: Floats = np.zeros(2)
        self._recent: Floats = np.zeros(2)  # requests, and what the profile said
        self._seen_s: float | None = None
        self._profile: Floats | None = None  # an hour, in the hours of the week

    @property
    def mean_rate(self) -> float:
        """Requests a second over the last week or so."""
        return float(self._mean[0] / max(self._mean[1], 1.0))

    def observe(self, now_s: float, requests: float) -> None:
        """So many requests came since the last call; the first call only says when counting begins."""
        seen = self._seen_s
        self._seen_s = now_s
        if seen is None or now_s <= seen:
            return
        span = now_s - seen
        if now_s // HOUR_S != seen // HOUR_S:
            self._remember(int(seen // HOUR_S))
        if span > MOST_GAP_S:
            return
        self._recent *= exp(-span / RECENT_S)
        if self._profile is not None:  # else there is nothing that traffic could be off
            self._recent += requests, float(self._profile[int(now_s // HOUR_S) % (DAYS * HOURS)]) * span / HOUR_S
        self._mean = self._mean * exp(-span / MEAN_S) + (requests, span)
        self._current += requests, span

    def forecast(self, now_s: float, end_s: float) -> float:
        """Requests from now to then."""
        if end_s <= now_s:
            return 0.0
        if self._profile is None:
            return self.mean_rate * (end_s - now_s)
        hours = np.arange(int(now_s // HOUR_S), int(end_s // HOUR_S) + 1)
        spans = np.minimum((hours + 1) * HOUR_S, end_s) - np.maximum(hours * HOUR_S, now_s)
        ahead = np.maximum((hours + 0.5) * HOUR_S - now_s, 0.0)
        expected = self._profile[hours % (DAYS * HOURS)] * spans / HOUR_S
        return float(np.sum(expected * (1.0 + self._off() * np.exp(-ahead / REACH_S))))

    def dump(self) -> dict[str, Any]:
        """Everything that `load` needs, as JSON values."""
        return {
            "slots": self._slots.tolist(),
            "current": self._current.tolist(),
            "mean": self._mean.tolist(),
            "recent": self._recent.tolist(),
            "seen_s": self._seen_s,
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Traffic:
        """The one that was dumped."""
        traffic = cls()
        traffic._slots = np.array(state["slots"], dtype=np.float64)
        traffic._current = np.array(state["current"], dtype=np.float64)
        traffic._mean = np.array(state["mean"], dtype=np.float64)
        traffic._recent = np.array(state["recent"], dtype=np.float64)
        traffic._seen_s = state["seen_s"]
        traffic._profile = _profile(traffic._slots)
        return traffic

    def _remember(self, hour: int) -> None:
        requests, seconds = self._current
        share = seconds / HOUR_S
        slot = self._slots[hour // HOURS % DAYS, hour % HOURS]
        if seconds >= 1.0:
            slot *= exp(-share / VISITS)
            slot += requests, share, requests**2 / share
        self._current[:] = 0.0
        self._profile = _profile(self._slots)

    def _off(self) -> float:
        """By which share of the profile traffic has been above it (or, negative, below)."""
        requests, expected = self._recent
        return float(requests / expected - 1.0) if expected > 0 else 0.0


def _profile(slots: Floats) -> Floats | None:
    """Requests in each hour of the week, from the Unix epoch on (a Thursday), of shape (168,); None before a day."""
    requests, hours, squares = slots.sum(axis=0).T
    if np.count_nonzero(hours) < HOURS:
        return None
    mean = requests.sum() / hours.sum()
    draw = _draw(requests, hours, squares, mean)
    hourly = (requests + mean * draw) / (hours + draw)
    expected = slots[..., 1] @ hourly
    alike = DAY_WEIGHT * hourly.sum()
    daily = (slots[..., 0].sum(axis=1) + alike) / (expected + alike)
    profile: Floats = np.outer(daily, hourly).ravel()
    return profile


def _draw(requests: Floats, hours: Floats, squares: Floats, mean: float) -> float:
    """The hours of observation that the draw towards the mean weighs: variance within over variance between."""
    freedom = hours.sum() - HOURS
    if freedom <= 1.0 or mean <= 0.0:
        return LEAST_DRAW
    within = max(0.0, float((squares - requests**2 / hours).sum())) / freedom
    between = float((hours * (requests / hours - mean) ** 2).sum() / hours.sum()) - within * HOURS / hours.sum()
    return min(MOST_DRAW, max(LEAST_DRAW, within / between)) if between > 0.0 else MOST_DRAW
