"""What the controllers publish of a route, as JSON in Redis: for workers to follow, and for people to look at."""

from __future__ import annotations

import msgspec
import redis as blocking

from policies.certify.records import FloorStatus
from router.control.names import state_key


class Published(msgspec.Struct, frozen=True, omit_defaults=True):
    """`at`: Unix time of the publisher. `version`: of what the floor is about. `budget`: what the pace is of.

    `floor`: the teacher answers from this expected loss on; `audit_rate`: what the floor wants audited at least.
    """

    at: float
    version: str = ""
    floor: float | None = None
    audit_rate: float = 0.0
    status: FloorStatus | None = None
    budget: str | None = None
    pace_usd: float | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Published).decode


def encoded(published: Published) -> bytes:
    return _encode(published)


def decoded(data: bytes) -> Published:
    """Raises ValueError for what is none of this version."""
    return _decode(data)


def read_published(client: blocking.Redis, routes: list[str]) -> dict[str, Published]:
    """Of the routes that something was published of. Raises redis' errors, and ValueError."""
    found = client.mget([state_key(route) for route in routes]) if routes else []
    return {route: decoded(data) for route, data in zip(routes, found, strict=True) if data}  # type: ignore[arg-type]  # redis-py types both clients' replies
