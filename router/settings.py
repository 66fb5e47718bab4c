"""The configuration: one YAML file, validated, with secrets from the environment. Nothing else reads the environment.

A file that cannot be used raises `ConfigError`: a line per problem with the YAML path and what is allowed.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from policies.base import PolicyConfig
from policies.fixed import FixedConfig
from policies.registry import CONFIGS
from router.errors import ConfigError
from router.evidence.compare.registry import COMPARATORS
from router.setting_errors import explain
from router.setting_types import BaseUrl, Name, PriceUsd, RedisUrl, Seconds
from router.yaml_text import parse_mapping

if TYPE_CHECKING:
    AnyPolicy = PolicyConfig
else:
    AnyPolicy = Annotated[Union[CONFIGS], Field(discriminator="kind")]  # noqa: UP007 - a tuple of types

Ability = Literal["tools", "json_schema", "images", "logprobs", "n", "responses"]
Permission = Literal["override", "force_model", "admin"]

METRICS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
LAST_GOOD = "last-good.yaml"
MASK = "********"


class Block(BaseModel):
    """A YAML mapping: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    """`url` is redis://, rediss://, unix:// or `embedded` (a bundled server kept in `data_dir`)."""

    url: RedisUrl
    password_env: str | None = None
    data_dir: Path = Field(default=Path("redis-data"), description="embedded only: where it keeps its data")


class Evidence(Block):
    """Where decision rows and pairs go: bounded Redis streams, and a bounded spool on disk while Redis is away."""

    spool_dir: Path = Field(default=Path("spool"), description="relative to the working directory")
    spool_max_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    queue_max_records: int = Field(default=20_000, ge=1)
    queue_max_bytes: int = Field(default=64 * 1024 * 1024, ge=64 * 1024)
    decisions_max: int = Field(default=1_000_000, ge=1, description="rows kept in the stream")
    pair_max_bytes: int = Field(default=256 * 1024, ge=1024, description="a larger pair is dropped and counted")
    pairs_max_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024, description="of disagreements, about")
    pairs_max: int = Field(default=50_000, ge=1, description="disagreements kept, and as many agreements")


class Price(Block):
    """USD per million tokens. `cached_input` defaults to `input`."""

    input: PriceUsd
    output: PriceUsd
    cached_input: PriceUsd | None = None


class Adapt(Block):
    """How a request is changed for this model: on every call, fallback and shadow included."""

    rename: dict[str, str] = {}
    drop: tuple[str, ...] = ()
    set: dict[str, Any] = {}
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


class Model(Block):
    base_urls: tuple[BaseUrl, ...] = Field(min_length=1)
    model: str | None = Field(default=None, min_length=1, description="the name sent upstream; default: the key")
    api_key_env: str | None = None
    price: Price
    context_tokens: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
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


def _comparator(value: str) -> str:
    if value not in COMPARATORS:
        raise ValueError(f"unknown comparator '{value}'; known: {', '.join(COMPARATORS)}")
    return value


class Audit(Block):
    """Ask the other arm in the background for this share of the route's requests."""

    rate: float = Field(default=0.0, ge=0, le=1)
    comparator: Annotated[str, AfterValidator(_comparator)] = "auto"
    max_in_flight: int = Field(default=32, ge=1)
    timeout_s: Seconds = 120


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

    @model_validator(mode="after")
    def _observes(self) -> Route:
        if self.mode == "observe" and not self.audit.rate:
            raise ValueError("mode observe measures nothing without audit: {rate: …}; 0.05 is a good start")
        return self


class Embeddings(Block):
    """`/v1/embeddings` goes to one model: the vector spaces of two models differ, so no policy may choose."""

    model: str


class Key(Block):
    name: Name
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the key: printf %s KEY | sha256sum")
    tenant: Name = "default"
    routes: tuple[str, ...] | None = Field(
        default=None, description="routes, and the model for embeddings; left out: all of them"
    )
    permissions: tuple[Permission, ...] = ()


def _on_off(value: Any) -> Any:
    """YAML 1.1 reads a bare `off` as false."""
    return ("on" if value else "off") if isinstance(value, bool) else value


class Tenant(Block):
    audit: Annotated[
        Literal["on", "off"], BeforeValidator(_on_off, json_schema_input_type=Literal["on", "off"] | bool)
    ] = "on"


class Config(Block):
    server: Server
    redis: Annotated[Redis, BeforeValidator(_redis, json_schema_input_type=Redis | str)] | None = None
    evidence: Evidence = Evidence()
    models: dict[Name, Model] = Field(min_length=1)
    policies: dict[Name, AnyPolicy] = Field(default={}, description="named policies for the header x-router-policy")
    routes: dict[Name, Route] = {}
    embeddings: Embeddings | None = None
    keys: tuple[Key, ...] = ()
    tenants: dict[Name, Tenant] = {}

    @model_validator(mode="after")
    def _references(self) -> Config:
        problems = [*self._unknown_models(), *self._unknown_routes(), *self._auth_problems()]
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

    def _unknown_routes(self) -> list[str]:
        names = [*self.routes, *([self.embeddings.model] if self.embeddings else [])]
        known = ", ".join(names) or "none"
        return [
            f"keys.{number}.routes: unknown route '{route}'; known: {known}"
            for number, key in enumerate(self.keys)
            for route in key.routes or ()
            if route not in names
        ]

    def _auth_problems(self) -> list[str]:
        if self.server.auth is None:
            return ["server.auth: must be said: `keys` (an API key is required) or `none` (anyone may call)"]
        if self.server.auth == "keys" and not self.keys:
            return ["keys: server.auth is `keys` but no key is configured"]
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


def open_to_all(server: Server, host: str) -> str | None:
    """A warning where nobody is asked for a key and `host` is more than this machine."""
    if server.auth != "none" or _is_loopback(host):
        return None
    return f"server.auth is none: anyone who reaches {host} may call, with every permission"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def masked(settings: Settings) -> dict[str, Any]:
    """The effective configuration with every secret replaced, ready for YAML."""
    data: dict[str, Any] = settings.config.model_dump(mode="json")
    if settings.config.redis:
        data["redis"]["url"] = _without_password(settings.config.redis.url)
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
