"""Who may call, as it is configured: API keys and tenants, their limits, and the keys' own budgets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from router.budget_settings import KINDS, Budget
from router.setting_types import Block, Name

Permission = Literal["override", "force_model", "admin"]
MAX_PER_MINUTE = 1_000_000_000  # counted in 1/60,000 it is still exact as the double that a Lua script counts in
PerMinute = Annotated[int, Field(ge=1, le=MAX_PER_MINUTE)]


def _moment(value: Any) -> Any:
    """ISO 8601. pydantic alone would take a number too, as seconds."""
    if value is None or isinstance(value, date):
        return value
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("expected a day or a time, such as 2027-01-31 or 2027-01-31T12:00:00Z") from None


def _in_utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("a time that no calendar holds") from None


Expires = Annotated[
    datetime | None,
    BeforeValidator(_moment, json_schema_input_type=str | None),
    AfterValidator(_in_utc),
]


def _without_scope(budget: Budget) -> Budget:
    scopes = [name for name in (*KINDS, "each") if getattr(budget, name) is not None]
    if scopes:
        raise ValueError(f"the budget of a key has no scope of its own: leave out {' and '.join(scopes)}")
    return budget


class Limits(Block):
    """Token buckets: as much at once as a minute allows, and refilled all the time."""

    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = Field(default=None, description="of prompts and answers together")


class KeyTerms(Limits):
    """What an API key is allowed; the same for keys in the file and in Redis."""

    name: Name
    tenant: Name = "default"
    routes: tuple[str, ...] | None = Field(
        default=None, description="routes, and the model for embeddings; left out: all of them"
    )
    permissions: tuple[Permission, ...] = ()
    expires: Expires = Field(default=None, description="from then on the key is refused; without a time zone: UTC")
    budgets: tuple[Annotated[Budget, AfterValidator(_without_scope)], ...] = Field(
        default=(), description="of this key alone, without key, tenant, route and each"
    )

    @model_validator(mode="after")
    def _one_budget_a_window(self) -> KeyTerms:
        windows = [budget.window for budget in self.budgets]
        if twice := sorted({window for window in windows if windows.count(window) > 1}):
            raise ValueError(f"the key '{self.name}' has two budgets per {twice[0]}; keep one of them")
        return self

    def own_budgets(self) -> tuple[tuple[str, Budget], ...]:
        """The key's own budgets by name, `key:WINDOW`, with the key as their scope."""
        return tuple((f"key:{budget.window}", budget.model_copy(update={"key": self.name})) for budget in self.budgets)

    def expired(self, now: datetime) -> bool:
        return self.expires is not None and now >= self.expires


class Key(KeyTerms):
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the key: printf %s KEY | sha256sum")


def key_budget_overlaps(own: tuple[tuple[str, Budget], ...], budgets: Mapping[str, Budget]) -> list[str]:
    """Own budgets of a key that limit the same money in the same window as one of `budgets`."""
    return [
        f"the budget per {mine.window} limits the same as budgets.{name}; keep one of them"
        for _, mine in own
        for name, budget in budgets.items()
        if (mine.window, mine.timezone, mine.counts, budget.kind)
        == (budget.window, budget.timezone, budget.counts, "key")
        and (budget.each or budget.member == mine.member)
    ]


def _on_off(value: Any) -> Any:
    """YAML 1.1 reads a bare `off` as false."""
    return ("on" if value else "off") if isinstance(value, bool) else value


class Tenant(Limits):
    """Limits hold for all keys of the tenant together."""

    audit: Annotated[
        Literal["on", "off"], BeforeValidator(_on_off, json_schema_input_type=Literal["on", "off"] | bool)
    ] = "on"
