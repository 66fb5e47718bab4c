"""Budgets, as they are configured: whose money, in which window, how much, and what happens when it is spent."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction
from itertools import combinations
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, model_validator

from router.ledger.pricing import NANO_PER_USD
from router.setting_types import Block, Name

Kind = Literal["key", "tenant", "route"]
KINDS: tuple[Kind, ...] = ("key", "tenant", "route")
CALENDAR = ("hour", "day", "month")
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
SHORTEST = timedelta(minutes=1)
LONGEST = timedelta(days=366)
MAX_LIMIT_USD = 1_000_000.0  # in nano-dollars still exact as the double that a Lua script counts in


def rolling(window: str) -> timedelta | None:
    """The length of a rolling window (`90m`, `24h`, `7d`); None for a calendar window. Raises ValueError."""
    if window in CALENDAR:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", window)
    length = int(match[1]) * UNITS[match[2]] if match else timedelta()
    if not SHORTEST <= length <= LONGEST:
        raise ValueError(
            f"unknown window '{window}'; known: hour, day, month (of the calendar), "
            "or a rolling one from 1m to 366d, such as 90m, 24h, 7d"
        )
    return length


def _window(value: str) -> str:
    rolling(value)
    return value


def _timezone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError(f"unknown time zone '{value}'; expected a name such as UTC or Europe/Berlin")
    return value


LimitUsd = Annotated[float, Field(ge=0, le=MAX_LIMIT_USD, allow_inf_nan=False)]


class Budget(Block):
    """At most one of `key`, `tenant`, `route` and `each`; none of them: all requests together."""

    key: Name | None = Field(default=None, description="of this API key")
    tenant: Name | None = Field(default=None, description="of this tenant")
    route: Name | None = Field(default=None, description="of this route")
    each: Kind | None = Field(default=None, description="a budget of this size for every key, tenant or route")
    window: Annotated[str, AfterValidator(_window)] = Field(
        description="hour, day, month: of the calendar; 90m, 24h, 7d: rolling"
    )
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="UTC", description="where the calendar's hour, day and month begin"
    )
    limit_usd: LimitUsd = Field(description="hard")
    target_usd: LimitUsd | None = Field(default=None, description="for pacing, at most limit_usd")
    counts: Literal["teacher", "all"] = "all"
    on_spent: Literal["student", "refuse"] = "refuse"
    on_redis_loss: Literal["student", "refuse", "allow"] | None = Field(
        default=None, description="when the leased rest is used up and Redis is away; default: as on_spent"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Budget:
        scopes = [kind for kind in (*KINDS, "each") if getattr(self, kind) is not None]
        if len(scopes) > 1:
            raise ValueError(f"one scope at most, not {' and '.join(scopes)}")
        for name in ("on_spent", "on_redis_loss"):
            if getattr(self, name) == "student" and self.counts == "all":
                raise ValueError(f"{name} student needs counts: teacher, for the student's calls cost money too")
        if self.target_usd is not None and self.target_usd > self.limit_usd:
            raise ValueError(f"target_usd {self.target_usd:g} is above limit_usd {self.limit_usd:g}")
        if rolling(self.window) and self.timezone != "UTC":
            raise ValueError("a rolling window has no time zone")
        return self

    @property
    def kind(self) -> Kind | None:
        """What the scope is about; None: all requests together."""
        return self.each or next((kind for kind in KINDS if getattr(self, kind) is not None), None)

    @property
    def member(self) -> str | None:
        """The one key, tenant or route; None where there are many, or no scope."""
        return None if self.kind is None or self.each else getattr(self, self.kind)

    @property
    def limit_nano(self) -> int:
        return _nano(self.limit_usd)

    @property
    def target_nano(self) -> int | None:
        return None if self.target_usd is None else _nano(self.target_usd)

    @property
    def redis_loss(self) -> Literal["student", "refuse", "allow"]:
        return self.on_redis_loss or self.on_spent

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


def _nano(usd: float) -> int:
    return round(Fraction(str(usd)) * NANO_PER_USD)


def overlaps(budgets: dict[str, Budget]) -> list[str]:
    """Pairs of budgets that limit the same money in the same window: one of the limits would be without effect."""
    return [
        f"budgets.{second}: overlaps budgets.{first}: both limit {_whose(a, b)} per {a.window}; keep one of them"
        for (first, a), (second, b) in combinations(budgets.items(), 2)
        if (a.window, a.timezone, a.counts, a.kind) == (b.window, b.timezone, b.counts, b.kind)
        and (a.member == b.member or a.each or b.each)
    ]


def _whose(a: Budget, b: Budget) -> str:
    member = a.member or b.member
    if a.kind is None:
        return "all requests"
    return f"{a.kind} '{member}'" if member else f"each {a.kind}"
