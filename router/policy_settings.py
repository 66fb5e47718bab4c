"""What policies need of the rest of a configuration: Redis, budgets, models, comparators."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from policies.base import PolicyConfig
from policies.learn.trained import FILE
from router.budget_settings import Budget
from router.comparator_settings import Use
from router.gate.settings import gate_problems
from router.trained.settings import encoder_problems, training_problems

if TYPE_CHECKING:
    from router.settings import Route


def policy_problems(
    routes: Mapping[str, Route],
    named: Mapping[str, PolicyConfig],
    budgets: Mapping[str, Budget],
    models: Collection[str],
    *,
    has_redis: bool,
) -> Iterator[str]:
    """A line for each, with its path in the file. `named`: the policies that a header may name."""
    for name, route in routes.items():
        path, policy = f"routes.{name}.policy", route.policy
        yield from _control_problems(path, name, policy, budgets, has_redis=has_redis)
        floor, timeout_s = policy.controls().floor, route.audit.timeout_s
        if floor is not None and floor.silent_s <= timeout_s:
            yield (
                f"{path}.floor.silent_s: {floor.silent_s:g} s is no longer than audit.timeout_s ({timeout_s:g} s), so "
                "that slow audits would ring an alarm; raise it"
            )
        yield from gate_problems(path, policy.asks(), models, teacher=route.teacher, student=route.student)
    for name, policy in named.items():
        yield from gate_problems(f"policies.{name}", policy.asks(), models)
        for what in ("pace", "floor"):
            if getattr(policy.controls(), what) is not None:
                yield f"policies.{name}.{what}: belongs to the policy of a route; here there is only a threshold"
    yield from encoder_problems({name: (route.policy, route.encoder) for name, route in routes.items()}, models)
    yield from training_problems(
        {name: (route.policy, route.training) for name, route in routes.items()}, has_redis=has_redis
    )


def comparator_uses(routes: Mapping[str, Route], named: Mapping[str, PolicyConfig]) -> Iterator[Use]:
    """Where comparators are named, and the models whose answers they compare there."""
    for name, route in routes.items():
        arms = frozenset({route.teacher, route.student})
        yield Use(f"routes.{name}.audit.comparator", route.audit.comparator, arms)
        if agreement := route.policy.asks().agreement:
            compared = frozenset({route.student, agreement.model or route.student})
            yield Use(f"routes.{name}.policy.agreement.comparator", agreement.comparator, compared)
    for name, policy in named.items():
        if agreement := policy.asks().agreement:
            yield Use(f"policies.{name}.agreement.comparator", agreement.comparator, frozenset())


def _control_problems(
    path: str, route: str, policy: PolicyConfig, budgets: Mapping[str, Budget], *, has_redis: bool
) -> Iterator[str]:
    controls, trained = policy.controls(), policy.trained_for(route)
    wanted = [what for what in ("pace", "floor") if getattr(controls, what) is not None]
    if wanted and not has_redis:
        yield f"{path}.{wanted[0]}: needs redis, in which workers share what they know; `redis: {{url: embedded}}`"
    if trained is not None and not trained.startswith(FILE) and not has_redis:
        yield f"{path}: trained policies are kept in redis; add it, or name a `file`"
    if controls.pace is not None:
        yield from _pace_problems(f"{path}.pace", route, controls.pace, budgets)


def _pace_problems(path: str, route: str, wanted: str, budgets: Mapping[str, Budget]) -> Iterator[str]:
    budget = budgets.get(wanted)
    if budget is None:
        yield f"{path}: unknown budget '{wanted}'; known: {', '.join(budgets) or 'none'}"
    elif budget.target_usd is None:
        yield f"{path}: budget '{wanted}' has no target_usd to keep pace with"
    elif budget.each or budget.kind in ("key", "tenant") or budget.member not in (None, route):
        yield f"{path}: budget '{wanted}' is not one of all requests or of route '{route}'"
