"""The configuration: one YAML file, validated, with secrets from the environment. Nothing else reads the environment.

A file that cannot be used raises `ConfigError`: a line per problem with the YAML path and what is allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from policies.base import PolicyConfig
from policies.control.stickiness import StickySettings
from policies.fixed import FixedConfig
from policies.registry import CONFIGS
from router.budget_settings import Budget, overlaps
from router.comparator_settings import ComparatorSettings, comparator_problems
from router.errors import ConfigError
from router.evidence_settings import Audit, Evidence, Retention
from router.key_settings import Key, Tenant, key_budget_overlaps
from router.policy_settings import comparator_uses, policy_problems
from router.price_settings import Prices
from router.setting_errors import explain
from router.setting_types import BaseUrl, Block, Name, RedisUrl, Seconds, ServerUrl
from router.trained.settings import EncoderSettings, Training
from router.yaml_text import parse_mapping

if TYPE_CHECKING:
    AnyPolicy = PolicyConfig
else:
    AnyPolicy = Annotated[Union[CONFIGS], Field(discriminator="kind")]  # noqa: UP007 - a tuple of types

Ability = Literal["tools", "json_schema", "images", "logprobs", "n", "responses"]

METRICS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
LAST_GOOD = "last-good.yaml"
MASK = "********"
AUDIT_BUDGET = "audit:"


class Server(Block):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=256)
    auth: Literal["keys", "none"] | None = Field(
        default=None, description="keys: an API key is required; none: anyone may call. Must be said."
    )
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    body_timeout_s: Seconds = 60
    metrics: Literal["open", "admin"] = Field(
        default="open", description="/metrics for anyone, or for keys with the permission admin"
    )
    drain_s: Seconds = Field(default=30, description="how long running requests may finish after SIGTERM")
    reload: bool = Field(default=True, description="reload the file when it changes (SIGHUP always does)")


def _redis(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class Redis(Block):
    """`url` is redis://, rediss://, unix:// or `embedded` (a bundled server kept in `data_dir`).

    Money (budgets, keys, limits, hourly sums) and evidence (rows, pairs) may live in servers of their own.
    """

    url: RedisUrl
    ledger_url: ServerUrl | None = Field(default=None, description="for money; default: url")
    evidence_url: ServerUrl | None = Field(default=None, description="for rows and pairs; default: url")
    password_env: str | None = None
    data_dir: Path = Field(default=Path("redis-data"), description="embedded only: where it keeps its data")


class Ledger(Block):
    """How workers lease money from Redis, and where they write down what they have of it."""

    state_dir: Path = Field(default=Path("ledger"), description="journals; relative to the working directory")
    lease_s: Seconds = Field(default=10, ge=2, description="a worker that Redis has not heard of for so long is dead")
    sync_s: Seconds = Field(default=0.25, ge=0.02, le=1, description="between two talks with Redis")
    wait_s: Seconds = Field(default=1, description="how long a request may wait for money that others have leased")
    sums_days: int = Field(default=400, ge=1, le=3660, description="how long Redis keeps the hourly sums")


class Adapt(Block):
    """How a request is changed for this model: on every call, fallback and shadow included."""

    rename: dict[str, str] = Field(default={})
    drop: tuple[str, ...] = ()
    set: dict[str, Any] = Field(default={})
    system_prompt: str | None = Field(default=None, description="replaces the system messages of the request")

    @model_validator(mode="after")
    def _protected(self) -> Adapt:
        for key in (*self.rename, *self.rename.values(), *self.drop, *self.set):
            if key in ("model", "stream", "messages"):
                raise ValueError(f"'{key}' is the gateway's own; adapt cannot touch it")
        return self


class Timeouts(Block):
    connect_s: Seconds = 5
    first_token_s: Seconds = Field(default=60, description="streams: until the first event")
    idle_s: Seconds = Field(default=30, description="streams: between two events")
    total_s: Seconds = 600


class Health(Block):
    path: str = Field(
        default="/models", pattern="^/[!-~]*$", description="below the base URL; any answer under 500 is healthy"
    )
    interval_s: Seconds = 10
    timeout_s: Seconds = 3


class Circuit(Block):
    failures: int = Field(default=5, ge=1, description="consecutive failures that open the circuit of a replica")
    open_s: Seconds = 10


class Shadow(Block):
    """Calls that no client waits for: audits, second draws, judges."""

    set: dict[str, Any] = Field(default={}, description="set in their bodies, such as vLLM's `priority`")
    max_connections: int = Field(default=32, ge=1, description="their own, per replica and worker")
    capacity_share: float = Field(default=0.25, gt=0, le=1, description="of max_in_flight, per worker")

    @model_validator(mode="after")
    def _protected(self) -> Shadow:
        for key in self.set:
            if key in ("model", "stream", "messages", "prompt", "input", "n", "logprobs"):
                raise ValueError(f"'{key}' is what is compared; shadow.set cannot touch it")
        return self


class Model(Block):
    base_urls: tuple[BaseUrl, ...] = Field(min_length=1)
    model: str | None = Field(default=None, min_length=1, description="the name sent upstream; default: the key")
    api_key_env: str | None = None
    price: Prices
    context_tokens: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    stops_on_hangup: bool = Field(
        default=False, description="stops work on an answer that does not stream when nobody waits (vLLM does)"
    )
    template_tokens: int = Field(default=256, ge=0, description="most that a chat template adds to the prompt")
    media_tokens: int = Field(default=4096, ge=0, description="most that one image, sound or file takes")
    bytes_per_token: float = Field(default=3.0, gt=0, le=64, description="for estimates before a call")
    supports: tuple[Ability, ...] = ("logprobs",)
    adapt: Adapt = Adapt()
    training_use: Literal["allow", "deny", "unknown"] = "unknown"
    timeouts: Timeouts = Timeouts()
    retries: int = Field(default=2, ge=0, le=10, description="further tries before the first byte")
    max_in_flight: int = Field(default=256, ge=1)
    max_connections: int = Field(default=1024, ge=1, description="per replica and worker")
    health: Health = Health()
    circuit: Circuit = Circuit()
    shadow: Shadow = Shadow()


class Fallback(Block):
    """What answers when an arm fails before its first byte: the other arm, or the error."""

    student: Literal["teacher", "error"] = "teacher"
    teacher: Literal["student", "error"] = "error"


class Route(Block):
    teacher: str
    student: str
    mode: Literal["route", "observe"] = "route"
    policy: AnyPolicy = FixedConfig(kind="fixed", model="teacher")
    audit: Audit = Audit()
    fallback: Fallback = Fallback()
    encoder: EncoderSettings | None = Field(
        default=None, description="vectors for the estimator: a call for every decision; train with it first"
    )
    training: Training | None = Field(default=None, description="learn anew from the route's pairs now and then")
    sticky: StickySettings | None = Field(
        default=StickySettings(),
        description="a conversation keeps its model unless leaving it is worth its cache",
    )

    @model_validator(mode="after")
    def _observes(self) -> Route:
        if self.mode == "observe" and not self.audit.rate:
            raise ValueError("mode observe measures nothing without audit: {rate: …}; 0.05 is a good start")
        return self


class Embeddings(Block):
    """`/v1/embeddings` goes to one model: the vector spaces of two models differ, so no policy may choose."""

    model: str


class Config(Block):
    server: Server
    redis: Annotated[Redis, BeforeValidator(_redis, json_schema_input_type=Redis | str)] | None = None
    evidence: Evidence = Evidence()
    comparators: dict[Name, ComparatorSettings] = Field(default={}, description="for audit.comparator, by name")
    retention: Retention = Retention()
    ledger: Ledger = Ledger()
    models: dict[Name, Model] = Field(min_length=1)
    policies: dict[Name, AnyPolicy] = Field(default={}, description="named policies for the header x-router-policy")
    routes: dict[Name, Route] = Field(default={})
    embeddings: Embeddings | None = None
    keys: tuple[Key, ...] = ()
    tenants: dict[Name, Tenant] = Field(default={})
    budgets: dict[Name, Budget] = Field(default={})

    @property
    def every_budget(self) -> dict[str, Budget]:
        """Those of the file, and those that audits have: `audit:ROUTE` pays for background calls only."""
        audits = {
            f"{AUDIT_BUDGET}{name}": Budget(route=name, window="day", limit_usd=route.audit.budget_usd_per_day)
            for name, route in self.routes.items()
            if route.audit.budget_usd_per_day is not None
        }
        return self.budgets | audits

    @model_validator(mode="after")
    def _references(self) -> Config:
        problems = [
            *self._unknown_models(),
            *self._unknown_routes(),
            *self._auth_problems(),
            *self._budget_problems(),
            *self._key_problems(),
            *overlaps(self.budgets),
            *self._audit_problems(),
            *policy_problems(self.routes, self.policies, self.budgets, self.models, has_redis=self.redis is not None),
            *comparator_problems(self.comparators, self.models, comparator_uses(self.routes, self.policies)),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _unknown_models(self) -> list[str]:
        named = [(f"routes.{name}.{arm}", model) for name, route in self.routes.items() for arm, model in _arms(route)]
        if self.embeddings:
            named.append(("embeddings.model", self.embeddings.model))
        known = ", ".join(self.models)
        problems = [
            f"{path}: unknown model '{model}'; known: {known}" for path, model in named if model not in self.models
        ]
        problems += [f"routes.{name}: a model has this name too" for name in self.routes if name in self.models]
        problems += [
            f"routes.{name}: teacher and student are the same model '{route.teacher}'"
            for name, route in self.routes.items()
            if route.teacher == route.student
        ]
        return problems

    def _audit_problems(self) -> Iterator[str]:
        for name in self.budgets:
            if name.startswith(AUDIT_BUDGET):
                yield f"budgets.{name}: names that begin with '{AUDIT_BUDGET}' are those of audits; choose another"
        for name, route in self.routes.items():
            path = f"routes.{name}.audit"
            if route.audit.budget_usd_per_day is None:
                continue
            if self.redis is None:
                yield f"{path}.budget_usd_per_day: needs redis, which the workers lease the money from"
            for model in (route.teacher, route.student):
                known = self.models.get(model)
                if known and known.max_output_tokens is None and known.context_tokens is None:
                    yield f"models.{model}: {path} has a budget, so that its dearest call counts: set max_output_tokens"

    def callable_names(self) -> list[str]:
        """What a key's `routes` may name: the routes, and the model for embeddings."""
        return [*self.routes, *([self.embeddings.model] if self.embeddings else [])]

    def _unknown_routes(self) -> list[str]:
        names = self.callable_names()
        known = ", ".join(names) or "none"
        return [
            f"keys.{number}.routes: unknown route '{route}'; known: {known}"
            for number, key in enumerate(self.keys)
            for route in key.routes or ()
            if route not in names
        ]

    def _budget_problems(self) -> list[str]:
        paths = {f"budgets.{name}": budget for name, budget in self.budgets.items()}
        for number, key in enumerate(self.keys):
            for n, (_, budget) in enumerate(key.own_budgets()):
                paths[f"keys.{number}.budgets.{n}"] = budget
        if paths and self.redis is None:
            return [
                f"{next(iter(paths))}: budgets need redis, which the workers lease the money from; "
                "`redis: {url: embedded}` is enough"
            ]
        return [problem for path, budget in paths.items() for problem in self._problems_of(path, budget)]

    def _problems_of(self, path: str, budget: Budget) -> Iterator[str]:
        """A budget whose scope does not exist, or that a call could exceed without a bound."""
        if budget.kind == "route" and budget.member and budget.member not in self.routes:
            yield f"{path}.route: unknown route '{budget.member}'; known: {', '.join(self.routes) or 'none'}"
        if budget.kind in ("key", "tenant") and self.server.auth == "none":
            yield f"{path}.{'each' if budget.each else budget.kind}: server.auth is none: nobody has a {budget.kind}"
        for model in self.unbounded_models(budget.counts):
            yield f"models.{model}: {path} counts its calls, so that the dearest must be known: set max_output_tokens"

    def unbounded_models(self, counts: Literal["teacher", "all"]) -> list[str]:
        """Models that a budget counts and whose dearest call nobody knows."""
        routed = {model for route in self.routes.values() for _, model in _arms(route)}
        embedder = {self.embeddings.model} - routed if self.embeddings else set()  # its answers have no length
        teachers = {route.teacher for route in self.routes.values()}
        counted = teachers if counts == "teacher" else set(self.models) - embedder
        return [
            name
            for name in sorted(counted & set(self.models))
            if self.models[name].max_output_tokens is None and self.models[name].context_tokens is None
        ]

    def _key_problems(self) -> list[str]:
        """Names given twice, limits that nobody has, and budgets of keys that limit what another one limits."""
        names = [key.name for key in self.keys]
        problems = [
            f"keys.{n}.name: '{name}' is the name of another key" for n, name in enumerate(names) if name in names[:n]
        ]
        if self.server.auth == "none":
            problems += [
                f"tenants.{name}.{limit}: server.auth is none: nobody has a tenant"
                for name, tenant in self.tenants.items()
                for limit in ("requests_per_minute", "tokens_per_minute")
                if getattr(tenant, limit) is not None
            ]
        for number, key in enumerate(self.keys):
            problems += [
                f"keys.{number}.budgets: {problem}" for problem in key_budget_overlaps(key.own_budgets(), self.budgets)
            ]
        return problems

    def _auth_problems(self) -> list[str]:
        if self.server.auth is None:
            return ["server.auth: must be said: `keys` (an API key is required) or `none` (anyone may call)"]
        if self.server.auth == "keys" and not self.keys:
            if self.redis is None:
                return ["keys: server.auth is `keys` but no key is configured"]
            return []  # they may be in Redis
        if self.server.auth == "none" and self.keys:
            return ["server.auth: is `none` but keys are configured; say `keys`, or remove them"]
        hashes = [key.sha256 for key in self.keys]
        return [f"keys.{n}.sha256: listed twice" for n, value in enumerate(hashes) if value in hashes[:n]]


def _arms(route: Route) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("teacher", route.teacher), ("student", route.student)


class Secrets(BaseModel):
    """What came from the environment: upstream keys by model, and the password of Redis."""

    model_config = ConfigDict(frozen=True)
    upstream: dict[str, SecretStr] = {}
    redis_password: SecretStr | None = None


class Settings(BaseModel):
    """A usable configuration: the file, its text as it was read, and the secrets it names."""

    model_config = ConfigDict(frozen=True)
    config: Config
    secrets: Secrets
    text: str = ""


def load(path: Path, environ: Mapping[str, str] | None = None, *, upstream_keys: bool = True) -> Settings:
    """Read, validate and complete a configuration file. Raises ConfigError.

    `upstream_keys` False: the models' API keys may be missing, for commands that call no model.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error.strerror if isinstance(error, OSError) else error}") from error
    return parse(text, environ, upstream_keys=upstream_keys)


def parse(text: str, environ: Mapping[str, str] | None = None, *, upstream_keys: bool = True) -> Settings:
    """`load` for a text. Raises ConfigError."""
    data = parse_mapping(text)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, Config.model_json_schema()))) from error
    secrets = _secrets(config, os.environ if environ is None else environ, upstream_keys)
    return Settings(config=config, secrets=secrets, text=text)


def _secrets(config: Config, environ: Mapping[str, str], upstream_keys: bool) -> Secrets:
    upstream: dict[str, SecretStr] = {}
    problems = []
    for name, model in config.models.items():
        if model.api_key_env is None:
            continue
        if value := environ.get(model.api_key_env):
            if not re.fullmatch(r"[!-~]+", value):
                problems.append(f"models.{name}.api_key_env: {model.api_key_env} holds what no HTTP header may carry")
            upstream[name] = SecretStr(value)
        elif upstream_keys:
            problems.append(f"models.{name}.api_key_env: the environment has no {model.api_key_env}")
    password = None
    if config.redis and config.redis.password_env:
        if value := environ.get(config.redis.password_env):
            password = SecretStr(value)
        else:
            problems.append(f"redis.password_env: the environment has no {config.redis.password_env}")
    if problems:
        raise ConfigError("\n".join(problems))
    return Secrets(upstream=upstream, redis_password=password)


def masked(settings: Settings) -> dict[str, Any]:
    """The effective configuration with every secret replaced, ready for YAML."""
    data: dict[str, Any] = settings.config.model_dump(mode="json")
    if settings.config.redis:
        for name in ("url", "ledger_url", "evidence_url"):
            if data["redis"][name]:
                data["redis"][name] = _without_password(data["redis"][name])
    for key in data["keys"]:
        key["sha256"] = f"{key['sha256'][:8]}…"
    for name in settings.secrets.upstream:
        data["models"][name]["api_key"] = MASK
    for model in data["models"].values():
        model["base_urls"] = [_without_password(url) for url in model["base_urls"]]
    return data


def _without_password(url: str) -> str:
    """Passwords in the address, and in Redis' `?password=`."""
    url = re.sub(r"(?<=[?&]password=)[^&]*", MASK, url)
    password = urlsplit(url).password
    return url.replace(f":{password}@", f":{MASK}@") if password else url


def share_metrics_dir(folder: Path | None) -> None:
    """Tell prometheus-client, before it is imported, and all child processes, where workers share their metrics."""
    if folder is None:
        os.environ.pop(METRICS_DIR_VARIABLE, None)
    else:
        os.environ[METRICS_DIR_VARIABLE] = str(folder)
