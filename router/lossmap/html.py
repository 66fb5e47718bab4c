"""The loss map as one HTML file: nothing is loaded from elsewhere, nothing needs a script, every text is escaped."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from router.errors import ConfigError
from router.lossmap import show
from router.lossmap.examples import readable
from router.lossmap.lines import lines
from router.lossmap.lossmap import LossMap
from router.lossmap.title import title

BAR_PX = 320


def write_html(found: LossMap, path: Path) -> None:
    """Raises ConfigError when the file cannot be written."""
    try:
        path.write_text(as_html(found), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {path}: {error.strerror or error}") from error


def as_html(found: LossMap) -> str:
    environment = Environment(
        loader=PackageLoader("router.lossmap", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"title": title, "share": show.share, "dollars": show.dollars, "money": show.money}
    environment.filters |= {"date": _date, "clean": readable, "quote": shlex.quote}
    template = environment.get_template("report.html.jinja")
    shown = lines(found)
    largest = max((line.lost_usd_per_day for line in shown), default=0.0)
    return template.render(
        found=found,
        head=list(show.head(found)),
        lines=shown,
        worth=show.worth(found),
        nothing=show.nothing_named(found) if found.enough else "",
        px=lambda usd: round(BAR_PX * usd / largest, 1) if largest else 0,
        now=time.time(),
    )


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
