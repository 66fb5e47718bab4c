"""Where the evidence of a gateway goes, as a name that stays the same from one start to the next."""

from __future__ import annotations

from redis.connection import parse_url

from router.evidence.redis import evidence_url
from router.settings import Settings


def destination(settings: Settings, redis_url: str | None) -> str:
    """Names the server and its database, without user and password; `redis_url` as for `evidence_url`.

    A bundled server is on another socket after each start: its folder is its name.
    """
    url, configured = evidence_url(settings, redis_url), settings.config.redis
    if url is None:
        return "none"
    if configured and configured.url == "embedded" and url != configured.evidence_url:
        return f"embedded {configured.data_dir.resolve()}"
    parts = parse_url(url)  # type: ignore[no-untyped-call]  # untyped there
    server = parts.get("path") or f"{parts.get('host', 'localhost')}:{parts.get('port', 6379)}"
    return f"{server} {parts.get('db', 0)}"
