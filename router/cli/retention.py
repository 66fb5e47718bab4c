"""`distill-router retention`: the figures that the gateways show as metrics, by route, student version and slice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from policies.retention import Figures, Rate, Sums, figures, pairs_needed
from router.control.show import read_states, state_text
from router.errors import ConfigError
from router.evidence.redis import Unreachable, connect_blocking
from router.evidence.retention import ALL, SLICES, add_up, day_key, decoded, window
from router.evidence.streams import SUMS_SHARD, shard_key
from router.settings import Settings, load
from router.upstream.model import model_version

HALF_WIDTH = 0.01


@dataclass(frozen=True, slots=True)
class Slice:
    """`more_pairs`: for ± `HALF_WIDTH` on the retention; None: no number would help."""

    name: str
    figures: Figures
    more_pairs: int | None


@dataclass(frozen=True, slots=True)
class Student:
    """One student version on one route. `current`: it is the one that is configured."""

    route: str
    student: str
    version: str
    current: bool
    excluded: dict[str, int]
    slices: list[Slice]


def run_retention(config_path: Path, route: str | None, *, as_json: bool) -> str:
    """The figures as text or JSON. Raises ConfigError for an unknown route, or without an answer from Redis."""
    settings = load(config_path, upstream_keys=False)
    if route is not None and route not in settings.config.routes:
        raise ConfigError(f"unknown route '{route}'; known: {', '.join(settings.config.routes)}")
    now_s = time.time()
    students = [student for student in read(settings, now_s) if route in (None, student.route)]
    states = read_states(settings, route)
    if as_json:
        shown = {
            "window_days": settings.config.retention.window_days,
            "students": [_data(student) for student in students],
            "controllers": {name: msgspec.to_builtins(state) for name, state in states.items()},
        }
        return json.dumps(shown, indent=2)
    if not students and not states:
        return "No request has been counted yet."
    controllers = (state_text(name, state, now_s) for name, state in states.items())
    return "\n\n".join([*(_text(student, settings) for student in students), *controllers])


def read(settings: Settings, now_s: float) -> list[Student]:
    """Every route and student version of the window. Raises ConfigError."""
    client = connect_blocking(settings, "evidence")
    if client is None:
        raise ConfigError("redis: the figures are kept there; without it a gateway shows its own at /metrics")
    config = settings.config
    try:
        days = window(now_s, config.retention.window_days)
        stored = [decoded(client.hgetall(shard_key(SUMS_SHARD, day_key(day)))) for day in days]
    except Unreachable as error:
        raise ConfigError(f"redis: no answer: {error}") from error
    found, excluded = add_up(stored)
    students = []
    for place in sorted(found.keys() | excluded.keys()):
        name, version = place
        route = config.routes.get(name)
        student = route.student if route else "?"
        current = route is not None and model_version(student, config.models[student]) == version
        slices = list(_slices(found.get(place, {}), settings))
        students.append(Student(name, student, version, current, dict(excluded.get(place, {})), slices))
    return students


def _slices(sums: dict[str, tuple[Sums, Sums]], settings: Settings) -> Iterator[Slice]:
    config = settings.config.retention
    for name in SLICES:
        loss, noise = sums.get(name, (Sums(), Sums()))
        shown = figures(loss, noise, confidence=config.confidence, min_pairs=config.min_pairs)
        if shown.requests:
            needed = pairs_needed(loss, HALF_WIDTH, config.confidence)
            yield Slice(name, shown, None if needed is None else max(needed, config.min_pairs - shown.pairs, 0))


def _data(student: Student) -> dict[str, Any]:
    return asdict(student) | {
        "slices": [
            {"slice": s.name, **asdict(s.figures), "more_pairs_for_1_percent": s.more_pairs} for s in student.slices
        ]
    }


def _text(student: Student, settings: Settings) -> str:
    config = settings.config.retention
    mark = "" if student.current else " (not the configured one)"
    lines = [
        f"{student.route}: student {student.student}, version {student.version}{mark}; "
        f"last {config.window_days} UTC days, {config.confidence:.0%} at every look"
    ]
    for each in student.slices:
        lines += _slice_lines(each, config.min_pairs)
    if student.excluded:
        counts = ", ".join(f"{reason} {count}" for reason, count in sorted(student.excluded.items()))
        lines.append(f"  excluded: {counts}")
    return "\n".join(lines)


def _slice_lines(each: Slice, min_pairs: int) -> Iterator[str]:
    shown = each.figures
    traffic = f"{shown.requests} requests, {shown.served} by the student, {shown.pairs} pairs"
    if shown.unresolved:
        traffic += f" (+{shown.unresolved} without a result, {shown.failed} of them for good)"
    yield f"  {each.name}: {traffic}"
    if not shown.served:
        yield "    the student served nothing: nothing to measure; `advise` and `losses` say what it would lose"
        return
    if not shown.enough:
        yield f"    not enough evidence (fewer than {min_pairs} pairs): {_more(each)}"
        return
    yield f"    route loss         {_rate(shown.route_loss)}"
    yield f"    student retention  {_rate(shown.student_retention)}; {_more(each)}"
    if each.name == ALL and shown.normalised_retention:
        yield f"    teacher noise      {_rate(shown.teacher_noise)}, {shown.noise_pairs} second draws"
        yield f"    retention over the teacher's own  {_rate(shown.normalised_retention)}"


def _more(each: Slice) -> str:
    if each.more_pairs is None:
        return (
            f"no number of pairs gives ±{HALF_WIDTH:.0%}: too many draws have no result, or too much is never looked at"
        )
    if each.more_pairs == 0:
        return f"±{HALF_WIDTH:.0%} or better"
    return f"{each.more_pairs} more pairs for ±{HALF_WIDTH:.0%}"


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return "unknown"
    estimate = "unknown" if rate.estimate is None else f"{rate.estimate:.2%}"
    return f"{estimate} [{rate.interval.low:.2%}, {rate.interval.high:.2%}]"
