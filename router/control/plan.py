"""Which controllers there are to run: a floor for each route that has one, a pace for each budget that is followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.budget_settings import Budget
from router.control.live import LiveRoute
from router.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Plan:
    """`routes`: those with a floor or a pace; `paces`: the budget that a route keeps pace with; `budgets`: these."""

    routes: Mapping[str, LiveRoute] = field(default_factory=dict)
    paces: Mapping[str, str] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)


def plan_of(runtime: Runtime) -> Plan:
    """Of a configuration, which has been checked: every pace names a budget with a target."""
    controls = {name: route.config.policy.controls() for name, route in runtime.routes.items()}
    paces = {name: each.pace for name, each in controls.items() if each.pace is not None}
    controlled = {name for name, each in controls.items() if each.pace is not None or each.floor is not None}
    return Plan(
        {name: route.live for name, route in runtime.routes.items() if name in controlled},
        paces,
        {name: runtime.config.budgets[name] for name in set(paces.values())},
    )
