"""Budgets as the usage and admin APIs show them: USD with nine places, times as Unix seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from router.auth import Caller
from router.budget_settings import Budget
from router.errors import Conflict, NotFound
from router.gateway import Gateway
from router.ledger.pricing import usd
from router.ledger.status import BudgetStatus, forgive, read_status


async def all_budgets(gateway: Gateway) -> list[dict[str, Any]]:
    return await _shown_of(gateway, gateway.runtime.config.every_budget, _own(gateway.runtime.authenticator.callers()))


async def budgets_of(gateway: Gateway, caller: Caller) -> list[dict[str, Any]]:
    """Those of the key and of its tenant. What all keys together spend is for the permission `admin`."""
    members = {"key": caller.name, "tenant": caller.tenant}
    applying = {
        name: budget.model_copy(update={"each": None, budget.kind: members[budget.kind]})
        for name, budget in gateway.runtime.config.every_budget.items()
        if budget.kind in members and (budget.each or budget.member == members[budget.kind])
    }
    return await _shown_of(gateway, applying, _own([caller]))


async def forgive_budget(gateway: Gateway, name: str, member: str) -> dict[str, Any]:
    """`member` may be left out where a budget has only one. Raises NotFound, Conflict."""
    if gateway.ledger_redis is None:
        raise Conflict("budgets are kept in Redis, and none is configured: set `redis`")
    configured = gateway.runtime.config.every_budget.get(name)
    member = member or (configured.member if configured else None) or ""
    freed = await forgive(gateway.ledger_redis, name, member, _settings(gateway, name, member), time.time())
    return {"budget": name, "member": member, "forgiven_usd": usd(freed)}


def _settings(gateway: Gateway, name: str, member: str) -> Budget:
    """Raises NotFound where there is no such budget, or none of such a member."""
    budget = gateway.runtime.config.every_budget.get(name)
    if budget is not None and (budget.each or (budget.member or "") == member):
        return budget
    for own, owner, budget in _own(gateway.runtime.authenticator.callers()):
        if (own, owner) == (name, member):
            return budget
    raise NotFound(f"there is no budget '{name}' of '{member}'; GET /v1/router/budgets lists them")


def _own(callers: Iterable[Caller]) -> list[tuple[str, str, Budget]]:
    return [(name, caller.name, budget) for caller in callers for name, budget in caller.budgets]


async def _shown_of(
    gateway: Gateway, budgets: Mapping[str, Budget], own: list[tuple[str, str, Budget]]
) -> list[dict[str, Any]]:
    if gateway.ledger_redis is None:
        return []
    statuses = await read_status(gateway.ledger_redis, budgets, time.time(), own)
    return [_shown(status) for status in statuses]


def _shown(status: BudgetStatus) -> dict[str, Any]:
    return {
        "budget": status.budget,
        "member": status.member,
        "window": status.window,
        "window_start": status.window_start,
        "window_end": status.window_end,
        "limit_usd": usd(status.limit_nano),
        "target_usd": None if status.target_nano is None else usd(status.target_nano),
        "spent_usd": usd(status.spent_nano),
        "reserved_usd": usd(status.reserved_nano),
        "presumed_spent_usd": usd(status.presumed_nano),
    }
