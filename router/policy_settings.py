"""What policies need of the rest of a configuration: Redis, budgets, models, comparators."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from policies.base import MEMBERS, PolicyConfig
from policies.certify.settings import FloorSettings
from policies.learn.trained import Slots
from router.budget_settings import Budget
from router.comparator_settings import Use
from router.gate.settings import gate_problems
from router.trained.settings import encoder_problems, store_problems, training_problems

if TYPE_CHECKING:
    from router.settings import Route

LEAST_STALE_S = 10.0  # another process leads after 5 s at most, publishes within one more, and is read within another


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
        yield from _unfinished(path, policy, name)
        yield from _control_problems(path, name, policy, budgets, has_redis=has_redis)
        yield from store_problems(path, policy, policy.trained_for(name), has_redis=has_redis)
        if floor := policy.controls().floor:
            yield from _floor_problems(f"{path}.floor", floor, route.audit.timeout_s)
        yield from gate_problems(path, policy.asks(), models, teacher=route.teacher, student=route.student)
    for name, policy in named.items():
        yield from _unfinished(f"policies.{name}", policy, "")
        yield from gate_problems(f"policies.{name}", policy.asks(), models)
        yield from store_problems(f"policies.{name}", policy, policy.trained_for(name), has_redis=has_redis)
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


def _unfinished(path: str, config: PolicyConfig, route: str) -> Iterator[str]:
    """A line where a policy lacks what the gateway reads of every one: a plug-in's may."""
    policy = config.build(route, Slots())
    if lacks := [name for name in MEMBERS if not hasattr(policy, name)]:
        yield f"{path}: the policy of kind '{config.kind}' has no {', '.join(lacks)}; see policies.base.Policy"


def _control_problems(
    path: str, route: str, policy: PolicyConfig, budgets: Mapping[str, Budget], *, has_redis: bool
) -> Iterator[str]:
    controls = policy.controls()
    wanted = [what for what in ("pace", "floor") if getattr(controls, what) is not None]
    if wanted and not has_redis:
        yield f"{path}.{wanted[0]}: needs redis, in which workers share what they know; `redis: {{url: embedded}}`"
    if controls.pace is not None:
        yield from _pace_problems(f"{path}.pace", route, controls.pace, budgets)


def _floor_problems(path: str, floor: FloorSettings, timeout_s: float) -> Iterator[str]:
    """`timeout_s`: of the route's audits."""
    if floor.silent_s <= timeout_s:
        yield (
            f"{path}.silent_s: {floor.silent_s:g} s is no longer than audit.timeout_s ({timeout_s:g} s), so that slow "
            "audits would ring an alarm; raise it"
        )
    if floor.stale_s < LEAST_STALE_S:
        yield (
            f"{path}.stale_s: {floor.stale_s:g} s is shorter than the controllers may take to change hands "
            f"({LEAST_STALE_S:g} s), so that the teacher would serve everything meanwhile; raise it"
        )


def _pace_problems(path: str, route: str, wanted: str, budgets: Mapping[str, Budget]) -> Iterator[str]:
    budget = budgets.get(wanted)
    if budget is None:
        yield f"{path}: unknown budget '{wanted}'; known: {', '.join(budgets) or 'none'}"
    elif budget.target_usd is None:
        yield f"{path}: budget '{wanted}' has no target_usd to keep pace with"
    elif budget.each or budget.kind in ("key", "tenant") or budget.member not in (None, route):
        yield f"{path}: budget '{wanted}' is not one of all requests or of route '{route}'"
