"""What a configuration allows and yet hardly means: told at the start and by `check`, and no reason to refuse it."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterator

from router.settings import Config, Server


def open_to_all(server: Server, host: str) -> str | None:
    """A warning where nobody is asked for a key and `host` is more than this machine."""
    if server.auth != "none" or _is_loopback(host):
        return None
    return f"server.auth is none: anyone who reaches {host} may call, with every permission"


def warnings(config: Config) -> list[str]:
    """What is allowed and yet hardly meant."""
    return [*_strangers_budgets(config), *_idle_audits(config), *_missing_programs(config)]


def _idle_audits(config: Config) -> Iterator[str]:
    """Audits that draw nothing, or whose pairs no training set may use."""
    for name, route in config.routes.items():
        audit, path, gated = route.audit, f"routes.{name}.audit", route.policy.kind == "cascade"
        if audit.rate and config.models[route.teacher].training_use == "unknown":
            yield (
                f"models.{route.teacher}.training_use: is unknown, and pairs that are written meanwhile can never be "
                "exported; say `allow` if the licence does, else `deny`"
            )
        if audit.rate and audit.budget_usd_per_day == 0:
            yield f"{path}.budget_usd_per_day: is 0: nothing is compared"
        if audit.targeted.low_confidence and not gated:
            yield f"{path}.targeted.low_confidence: policy '{route.policy.kind}' has no confidence; cascade has"


def _missing_programs(config: Config) -> Iterator[str]:
    """Programs of comparators and checks that are not there."""
    policies = {f"routes.{name}.policy": route.policy for name, route in config.routes.items()}
    policies |= {f"policies.{name}": policy for name, policy in config.policies.items()}
    users: dict[str, object] = {f"comparators.{name}": one for name, one in config.comparators.items()}
    for path, policy in policies.items():
        users |= {f"{path}.checks.{name}": check for name, check in policy.asks().checks.items()}
    for path, settings in users.items():
        argv = getattr(settings, "argv", None) or getattr(settings, "test", None)
        if argv and shutil.which(argv[0]) is None:
            yield f"{path}: there is no program '{argv[0]}' here"


def _strangers_budgets(config: Config) -> list[str]:
    """Budgets of a key or tenant that the file does not have: perhaps a slip, perhaps a key that is in Redis."""
    keys = {key.name for key in config.keys}
    known = {"key": keys, "tenant": {*config.tenants, *(key.tenant for key in config.keys)}}
    return [
        f"budgets.{name}.{budget.kind}: this file has no {budget.kind} '{budget.member}'; "
        f"it has: {', '.join(sorted(known[budget.kind])) or 'none'}. Without a key in Redis it limits nobody"
        for name, budget in config.budgets.items()
        if budget.kind in known and budget.member and budget.member not in known[budget.kind]
    ]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
