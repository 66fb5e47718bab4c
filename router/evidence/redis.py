"""The connection to Redis for evidence, and the one script that appends to a bounded stream."""

from __future__ import annotations

from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from router.settings import Settings

TIMEOUT_S = 2.0

# One call appends a whole batch: KEYS[1] the stream, ARGV[1] its bound in entries, the rest the records.
APPEND = """
for i = 2, #ARGV do redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'r', ARGV[i]) end
return #ARGV - 1
"""

Unreachable = (RedisError, OSError, TimeoutError)


def connect(url: str, settings: Settings) -> aioredis.Redis:
    """A client for `url`, with the configured password and short timeouts; connects on its first command."""
    secret = settings.secrets.redis_password
    options: dict[str, Any] = {"password": secret.get_secret_value()} if secret else {}
    return aioredis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        health_check_interval=30,
        # The spool is the second try: a batch sent again after a timeout would be there twice.
        retry=Retry(NoBackoff(), 0),
        **options,
    )
