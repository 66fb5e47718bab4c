"""A training report for people: as text, as one HTML file, or its reliability diagram alone as SVG.

It shows what it knows of a report and lists whatever else it holds; `--json` gives everything.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from router.errors import ConfigError
from router.replace_file import replace_file
from router.trained import reliability
from router.trained.record import VersionRecord

MARK = "<!-- A training report by distill-router: the next one may replace this file. -->"
FORMS = (".html", ".svg")
COLUMNS = 110
# Figures on examples that the model had not seen, and how they are written.
FIGURES: Mapping[str, tuple[str, str]] = {
    "log_loss": ("log-loss", "{:.4f}"),
    "brier": ("Brier score", "{:.4f}"),
    "auc": ("AUC", "{:.3f}"),
    "calibration_error": ("calibration error", "{:.2%}"),
}
# What is told in words of its own.
TOLD = {*FIGURES, "examples", "groups", "effective_examples", "harm_rate", "reliability", "until"}


def as_text(title: str, record: VersionRecord, report: Mapping[str, Any]) -> str:
    told = list(facts(record, report))
    width = max(len(name) for name, _ in told)
    lines = [title, *(_wrapped(f"  {name:<{width}}  ", value) for name, value in told)]
    table = report.get("reliability") or []
    if table:
        lines += ["", "Reliability on examples that the model had not seen (█ observed, | expected):"]
        lines += [f"  {line}" for line in reliability.as_text(reliability.bins_of(table))]
    return "\n".join(lines)


def _wrapped(name: str, value: str) -> str:
    return textwrap.fill(value, COLUMNS, initial_indent=name, subsequent_indent=" " * len(name))


def facts(record: VersionRecord, report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values, in the reader's order."""
    yield "trained", f"{_date(record.created)}, version {record.version}, {_origin(record)}"
    if record.data:
        yield "from", _data(record)
    elif report.get("until"):
        yield "from", f"pairs until {_date(report['until'])}"
    if "examples" in report:
        yield "examples", _examples(report)
    figures = [f"{name} {form.format(report[key])}" for key, (name, form) in FIGURES.items() if key in report]
    if figures:
        yield "unseen", ", ".join(figures)
    for key, value in report.items():
        if key not in TOLD:
            yield from _rest(_words(key), value)
    if record.trial:
        yield "trial", _trial(record.trial)


def require_form(path: Path) -> None:
    """Raises ConfigError where a report of this name cannot be written, or would replace something else."""
    if path.suffix not in FORMS:
        raise ConfigError(f"--report {path}: expected a name that ends in {' or '.join(FORMS)}")
    try:
        with path.open("rb") as file:
            ours = file.read(len(MARK)) == MARK.encode()
    except FileNotFoundError:
        if path.absolute().parent.is_dir():
            return
        raise ConfigError(f"--report {path}: there is no folder {path.parent}") from None
    except OSError as error:
        raise ConfigError(f"--report {path}: {error.strerror or error}") from error
    if not ours:
        raise ConfigError(f"--report {path}: exists and is no training report; choose another name, or remove it")


def write_report(path: Path, title: str, record: VersionRecord, report: Mapping[str, Any]) -> None:
    """As the name says, in one step. Raises ConfigError."""
    require_form(path)
    text = as_svg(title, report) if path.suffix == ".svg" else as_html(title, record, report)
    try:
        replace_file(path, f"{MARK}\n{text}\n".encode())
    except OSError as error:
        raise ConfigError(f"--report {path}: {error.strerror or error}") from error


def as_svg(title: str, report: Mapping[str, Any]) -> str:
    """The reliability diagram. Raises ConfigError for a report without one."""
    table = report.get("reliability")
    if not table:
        raise ConfigError("--report: this training report has no reliability bins to draw")
    return reliability.as_svg(reliability.bins_of(table), title)


def as_html(title: str, record: VersionRecord, report: Mapping[str, Any]) -> str:
    """Nothing is loaded from elsewhere, nothing needs a script, every text is escaped."""
    environment = Environment(
        loader=PackageLoader("router.trained", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    table = report.get("reliability") or []
    return environment.get_template("report.html.jinja").render(
        title=title,
        facts=list(facts(record, report)),
        bins=reliability.bins_of(table),
        figure=reliability.as_svg(reliability.bins_of(table), title) if table else "",
    )


def _examples(report: Mapping[str, Any]) -> str:
    said = f"{report['examples']:,}"
    if "groups" in report:
        said += f" in {report['groups']:,} conversations"
    if "effective_examples" in report:
        said += f", worth {report['effective_examples']:,.0f} of equal weight"
    if "harm_rate" in report:
        said += f"; harm in {report['harm_rate']:.1%}"
    return said


def _data(record: VersionRecord) -> str:
    data = record.data
    said = [f"{data[what]:,} {what}" for what in ("pairs", "rows") if data.get(what)]
    left_out = ", ".join(f"{reason} {count:,}" for reason, count in data.get("left_out", {}).items())
    told = " and ".join(said) or "nothing"
    if record.until:
        told += f" until {_date(record.until)}"
    return f"{told} ({', '.join(data.get('from', ()))})" + (f"; left out: {left_out}" if left_out else "")


def _trial(trial: Mapping[str, Any]) -> str:
    return (
        f"{trial['pairs']:,} newer pairs: squared error {trial['gain']:+.4f} better than {trial['against']}, "
        f"evidence {trial['evidence']:.3g} of the {trial['needed']:.3g} that a promotion needs"
    )


def _rest(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Whatever a report holds, a line for each group of values that belong together."""
    if isinstance(value, Mapping):
        plain = {key: each for key, each in value.items() if not isinstance(each, Mapping | list)}
        title = str(plain.pop("head", ""))
        name = f"{name} {title}" if title else name
        if plain:
            yield name, ", ".join(f"{_words(key)} {_plain(each)}" for key, each in plain.items())
        for key, each in value.items():
            if key not in plain and key != "head":
                yield from _rest(f"{name}, {_words(key)}", each)
    elif isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        for each in value:
            yield from _rest(name, each)
    elif isinstance(value, list):
        yield name, ", ".join(map(_plain, value))
    else:
        yield name, _plain(value)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _origin(record: VersionRecord) -> str:
    return {"train": "by hand", "retrain": "on schedule", "file": "from a file"}[record.origin]


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
