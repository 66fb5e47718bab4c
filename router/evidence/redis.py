"""The connections to Redis."""

from __future__ import annotations

from typing import Any, Literal

import redis
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from router.bundled_redis import running_url
from router.errors import ConfigError
from router.settings import Settings

TIMEOUT_S = 2.0
Purpose = Literal["ledger", "evidence"]

Unreachable = (RedisError, OSError, TimeoutError)


def evidence_url(settings: Settings, redis_url: str | None) -> str | None:
    """Where rows and pairs go: a server of their own if one is configured, else the one at `redis_url` (None: none)."""
    own = settings.config.redis.evidence_url if settings.config.redis else None
    return redis_url and (own or redis_url)


def connect(url: str, settings: Settings) -> aioredis.Redis:
    """A client for `url`, with the configured password and short timeouts; connects on its first command."""
    return aioredis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        health_check_interval=30,
        # The log is the second try.
        retry=Retry(NoBackoff(), 0),
        **_password(settings),
    )


def connect_blocking(settings: Settings, purpose: Purpose) -> redis.Redis | None:
    """The same for a command of the command line; None where no Redis is configured.

    Raises ConfigError when it is the bundled one, and no gateway runs it.
    """
    config = settings.config.redis
    if config is None:
        return None
    url = (config.ledger_url if purpose == "ledger" else config.evidence_url) or config.url
    if url == "embedded":
        running = running_url(config.data_dir)
        if running is None:
            raise ConfigError(
                f"redis: no gateway runs a bundled Redis in {config.data_dir}; start one, or set redis.url"
            )
        url = running
    return redis.Redis.from_url(
        url, socket_timeout=TIMEOUT_S + 2, socket_connect_timeout=TIMEOUT_S, **_password(settings)
    )


def _password(settings: Settings) -> dict[str, Any]:
    """An address with a password of its own keeps it."""
    secret = settings.secrets.redis_password
    return {"password": secret.get_secret_value()} if secret else {}
