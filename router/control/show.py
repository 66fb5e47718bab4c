"""How floors and paces stand, read from Redis for people: the command line and whoever asks without a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from policies.certify.records import FloorStatus
from router.control.published import Published, read_published
from router.errors import ConfigError
from router.evidence.redis import Unreachable, connect_blocking
from router.settings import Settings


def read_states(settings: Settings, route: str | None = None) -> dict[str, Published]:
    """Of every route with a floor or a pace that has published one, or of one route. Raises ConfigError."""
    routes = [
        name
        for name, config in settings.config.routes.items()
        if route in (None, name) and (config.policy.controls().floor or config.policy.controls().pace)
    ]
    client = connect_blocking(settings, "ledger") if routes else None
    if client is None:
        return {}
    try:
        return read_published(client, routes)
    except Unreachable as error:
        raise ConfigError(f"redis: no answer: {error}") from error
    except ValueError as error:
        raise ConfigError(f"redis: what the controllers published is of another version: {error}") from error
    finally:
        client.close()


def state_text(route: str, published: Published, now_s: float) -> str:
    """The floor and the pace of a route, a line each thing."""
    return "\n".join(_lines(route, published, now_s))


def _lines(route: str, published: Published, now_s: float) -> Iterator[str]:
    yield f"{route}: controllers, {max(0.0, now_s - published.at):.0f} s ago"
    if published.status is not None:
        yield from _floor_lines(published.status)
    if published.pace_usd is not None:
        yield f"  pace of budget {published.budget}: a USD for the teacher must save a loss of {published.pace_usd:.4g}"


def _floor_lines(status: FloorStatus) -> Iterator[str]:
    serves = "the teacher serves everything" if status.threshold == 0 else _bar(status.threshold)
    yield f"  floor: {status.phase}: {status.why}; {serves}"
    yield (
        f"    {status.requests} requests, {status.student_share:.1%} by the student, {status.audits} audits "
        f"({status.audit_rate:.1%} wanted now)"
    )
    yield f"    loss over all traffic {status.loss_estimate:.2%}, at most {status.upper_bound:.2%}"
    if status.uncovered:
        yield f"    {status.uncovered} further requests by the student, outside: no audit could tell of them"
    for alarm in status.alarms:
        yield f"    alarm {datetime.fromtimestamp(alarm.time_s, UTC):%Y-%m-%d %H:%M} UTC ({alarm.kind}): {alarm.why}"


def _bar(threshold: float) -> str:
    return "the student serves everything" if threshold > 1 else f"the student serves below {threshold:.3f}"
