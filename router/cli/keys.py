"""`distill-router keys create|list|revoke`: API keys in the Redis of a configuration."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from router.errors import ConfigError, RouterError
from router.evidence.redis import Unreachable, connect_blocking
from router.key_settings import KeyTerms
from router.keys.issue import issue, listed, names_in_file
from router.keys.record import shown
from router.keys.store import KeyStore
from router.setting_errors import explain
from router.settings import Config, load

T = TypeVar("T")

PERIOD = re.compile(r"([1-9][0-9]{0,5})([mhd])")
PERIODS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
COLUMNS = ("name", "tenant", "routes", "permissions", "per minute", "budgets", "created", "expires", "source")
UNBOUNDED = 100_000  # columns of a file or a pipe: more than any table has
BUDGET = re.compile(r"([0-9]+(?:\.[0-9]+)?)/([a-z0-9]+)")


def run_create(
    config_path: Path,
    *,
    name: str,
    tenant: str,
    routes: Sequence[str],
    permissions: Sequence[str],
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    expires: str | None,
    budgets: Sequence[str],
    as_json: bool,
) -> str:
    """What to print: the new key, which is shown this once. Raises ConfigError."""
    terms = _terms(
        {
            "name": name,
            "tenant": tenant,
            "routes": list(routes) or None,
            "permissions": list(permissions),
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "expires": expires and _moment(expires),
            "budgets": [_budget(text) for text in budgets],
        }
    )
    key, record = _with_store(config_path, lambda store, config: issue(store, config, terms))
    if as_json:
        return json.dumps({**shown(record), "key": key}, indent=2)
    return key


def run_list(config_path: Path, *, as_json: bool) -> None:
    """Print the keys of the file and of Redis, without hashes. Raises ConfigError."""
    keys = _with_store(config_path, listed)
    if as_json:
        print(json.dumps(keys, indent=2))
        return
    console = Console() if sys.stdout.isatty() else Console(width=UNBOUNDED)
    console.print(as_table(keys))


def as_table(keys: Sequence[dict[str, Any]]) -> Table:
    """As wide as its content; where there is less room, cells are folded, not cut."""
    table = Table()
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for key in keys:
        table.add_row(*_cells(key))
    return table


def run_revoke(config_path: Path, name: str) -> str:
    """Raises ConfigError."""

    async def revoke(store: KeyStore, config: Config) -> None:
        await store.revoke(name, names_in_file(config))

    _with_store(config_path, revoke)
    return f"revoked: {name}"


def _with_store(config_path: Path, use: Callable[[KeyStore, Config], Awaitable[T]]) -> T:
    settings = load(config_path, upstream_keys=False)
    client = connect_blocking(settings, "ledger")
    if client is None:
        raise ConfigError("redis: these keys are kept in Redis, and none is configured")

    async def evaluate(*arguments: Any) -> Any:
        return client.eval(*arguments)

    async def run() -> T:
        return await use(KeyStore(evaluate), settings.config)

    try:
        with client:
            return asyncio.run(run())
    except RouterError as error:
        raise ConfigError(error.message) from None
    except Unreachable as error:
        raise ConfigError(f"redis: no answer: {error}") from error


def _terms(data: dict[str, Any]) -> KeyTerms:
    try:
        return KeyTerms.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, KeyTerms.model_json_schema()))) from None


def _moment(text: str) -> str | datetime:
    """`90d`, `12h`, `30m` from now; anything else is a day or a time."""
    match = PERIOD.fullmatch(text)
    return datetime.now(UTC).replace(microsecond=0) + int(match[1]) * PERIODS[match[2]] if match else text


def _budget(text: str) -> dict[str, Any]:
    match = BUDGET.fullmatch(text)
    if match is None:
        raise ConfigError(f"--budget {text}: expected USD/WINDOW, such as 50/month, 5/day or 2.50/24h")
    return {"limit_usd": float(match[1]), "window": match[2]}


def _cells(key: dict[str, Any]) -> list[str]:
    if key.get("unreadable"):
        return [key["name"] or "", "", "", "", "", "", "", "", "redis, cannot be used"]
    limits = [
        f"{key[field]} {what}"
        for field, what in (("requests_per_minute", "requests"), ("tokens_per_minute", "tokens"))
        if key[field] is not None
    ]
    return [
        key["name"],
        key["tenant"],
        "all" if key["routes"] is None else ", ".join(key["routes"]),
        ", ".join(key["permissions"]),
        ", ".join(limits),
        ", ".join(f"{budget['limit_usd']:g} USD/{budget['window']}" for budget in key["budgets"]),
        (key["created"] or "")[:10],
        (key["expires"] or "")[:16],
        key["source"],
    ]
