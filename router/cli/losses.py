"""`distill-router losses`: the loss map of a route as text or JSON, and as a report for a browser."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from router.errors import ConfigError
from router.evidence.archive.source import sources
from router.lossmap import show
from router.lossmap.html import require_ours, write_html
from router.lossmap.lossmap import LossMap, build
from router.report.period import parse_period
from router.settings import Settings, load


def run_losses(
    config_path: Path, route: str, since: str, archives: Sequence[str], html: Path | None, *, as_json: bool
) -> str:
    """The map as text or JSON; written to `html` too. Raises ConfigError, for an unknown route also."""
    settings = load(config_path, upstream_keys=False)
    if route not in settings.config.routes:
        raise ConfigError(f"unknown route '{route}'; known: {', '.join(settings.config.routes)}")
    if html is not None:
        require_ours(html)
    found = loss_map(settings, route, since, archives)
    if html is not None:
        write_html(found, html)
    if as_json:
        return show.as_json(found)
    return show.as_text(found) + (f"\n\nThe report is in {html}." if html else "")


def loss_map(settings: Settings, route: str, since: str, archives: Sequence[str]) -> LossMap:
    """Of what was written since then, to Redis, the spool or the archives. Raises ConfigError."""
    period = parse_period(since, None, "UTC", time.time())
    source = sources(settings, archives)
    config = settings.config.routes[route]
    return build(
        route,
        (config.teacher, config.student),
        [pair for pair in source.pairs(since=period.start) if pair.route == route and pair.time in period],
        [row for row in source.rows(period.start) if row.rt == route and row.t in period],
        settings.config.retention.min_pairs,
    )
