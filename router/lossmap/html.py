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
from router.replace_file import replace_file

BAR_PX = 320
MARK = "<!-- A loss map by distill-router: the next one may replace this file. -->"


def write_html(found: LossMap, path: Path) -> None:
    """For the owner's eyes only, as it quotes prompts; in one step, so that nobody reads half of it.

    Raises ConfigError when the file cannot be written, or is not of this command.
    """
    require_ours(path)
    try:
        replace_file(path, as_html(found).encode())
    except OSError as error:
        raise ConfigError(f"--html {path}: {error.strerror or error}") from error


def require_ours(path: Path) -> None:
    """Raises ConfigError where something is in the way that is no earlier report."""
    try:
        with path.open("rb") as file:
            ours = file.read(len(MARK)) == MARK.encode()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"--html {path}: {error.strerror or error}") from error
    if not ours:
        raise ConfigError(f"--html {path}: exists and is no loss map; choose another name, or remove it")


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
    page = template.render(
        found=found,
        head=list(show.head(found)),
        lines=shown,
        worth=show.worth(found),
        nothing=show.nothing_named(found) if found.enough else "",
        px=lambda usd: round(BAR_PX * usd / largest, 1) if largest else 0,
        now=time.time(),
    )
    return f"{MARK}\n{page}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
