"""What a configuration allows and yet hardly means: told at the start and by `check`, and no reason to refuse it."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterator
from importlib.util import find_spec

from policies.cascade import CascadeConfig
from policies.learn.trained import Slots
from router.settings import Config, Route, Server
from router.trained.files import path_of
from router.trained.settings import OnnxSettings

LIBRARIES = ("lightgbm", "scipy", "threadpoolctl")  # of the extra `learn`


def open_to_all(server: Server, host: str) -> str | None:
    """A warning where nobody is asked for a key and `host` is more than this machine."""
    if server.auth != "none" or _is_loopback(host):
        return None
    return f"server.auth is none: anyone who reaches {host} may call, with every permission"


def warnings(config: Config) -> list[str]:
    """What is allowed and yet hardly meant."""
    return [
        *_strangers_budgets(config),
        *_idle_audits(config),
        *_idle_learning(config),
        *_blind_gates(config),
        *_missing_programs(config),
        *_missing_files(config),
    ]


def _idle_audits(config: Config) -> Iterator[str]:
    """Audits that draw nothing, or whose pairs no training set may use; what the kind of policy does not look at."""
    for name, route in config.routes.items():
        audit, path, gated = route.audit, f"routes.{name}.audit", route.policy.kind == "cascade"
        audits = _audits(route)
        if audits and config.models[route.teacher].training_use == "unknown":
            yield (
                f"models.{route.teacher}.training_use: is unknown, and pairs that are written meanwhile can never be "
                "exported; say `allow` if the licence does, else `deny`"
            )
        if audits and audit.budget_usd_per_day == 0:
            yield f"{path}.budget_usd_per_day: is 0: nothing is compared"
        if audit.targeted.low_confidence and not gated:
            yield f"{path}.targeted.low_confidence: policy '{route.policy.kind}' has no confidence; cascade has"
        if route.sticky and "sticky" in route.model_fields_set and not route.policy.controls().sticks:
            yield f"routes.{name}.sticky: policy '{route.policy.kind}' keeps no conversation; difficulty does"


def _idle_learning(config: Config) -> Iterator[str]:
    """Floors and trainings that no audit tells anything, and trainings that this installation cannot do."""
    missing = ", ".join(name for name in LIBRARIES if find_spec(name) is None)
    for name, route in config.routes.items():
        if route.training is not None and missing:
            yield f"routes.{name}.training: needs {missing}, not installed here: pip install 'distill-router[learn]'"
        if route.training is not None and not _audits_untrained(name, route):
            yield f"routes.{name}.training: learns from audited pairs, and so far nothing is audited; set audit.rate"
        if route.mode == "observe" and route.policy.controls().floor is not None:
            yield f"routes.{name}.policy.floor: in mode observe no policy decides, so that it never certifies anything"


def _blind_gates(config: Config) -> Iterator[str]:
    """Gates by log-probabilities that the student may not give."""
    for name, route in config.routes.items():
        policy = route.policy
        if not isinstance(policy, CascadeConfig) or policy.gate != "logprob" or policy.agreement is not None:
            continue
        if "logprobs" not in config.models[route.student].supports:
            yield (
                f"routes.{name}.policy.gate: looks at log-probabilities, which models.{route.student}.supports does "
                "not name; without them every answer goes to the teacher"
            )


def _audits(route: Route) -> bool:
    """Whether requests are drawn at random: as configured, or as a floor wants."""
    return route.audit.rate > 0 or route.policy.controls().floor is not None


def _audits_untrained(name: str, route: Route) -> bool:
    """The same while nothing is trained: a floor audits what has a score."""
    return route.audit.rate > 0 or (_audits(route) and route.policy.build(name, Slots()).scorer != "")


def _missing_files(config: Config) -> Iterator[str]:
    """Files of trained policies and of encoders that are not there."""
    followed = {f"routes.{name}.policy": route.policy.trained_for(name) for name, route in config.routes.items()}
    followed |= {f"policies.{name}": policy.trained_for(name) for name, policy in config.policies.items()}
    files = {f"{path}.file": path_of(name) for path, name in followed.items() if name is not None}
    for name, route in config.routes.items():
        if isinstance(route.encoder, OnnxSettings):
            path = f"routes.{name}.encoder"
            files |= {f"{path}.model": route.encoder.model, f"{path}.tokenizer": route.encoder.tokenizer}
    for path, file in files.items():
        if file is not None and not file.is_file():
            yield f"{path}: there is no file '{file}' here"


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
