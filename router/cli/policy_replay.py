"""`distill-router policy replay|tune`: what another policy would have cost and lost on a route's logged traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from policies.learn import artifact
from policies.learn.trained import Slots, Trained
from policies.replay.support import NoSupport
from router.errors import ConfigError
from router.replay import show
from router.replay.candidate import require_replayable
from router.replay.log import read_log
from router.replay.replay import Prepared, prepare, replay, require_audited
from router.replay.tune import LEVELS, Operating, require_points, tune
from router.settings import Settings, load
from router.trained.blocking import with_store
from router.trained.examples import served_on
from router.trained.files import path_of, read_trained
from router.trained.store import Stored, TrainedStore

__all__ = ["Asked", "NoSupport", "run_replay", "run_tune"]

USUAL_MAX_LOSS = 0.05
ANY_POINT = 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose policy, on what. `sources`: `redis`, archives, files of pairs or of rows; `since`: of the first two.

    `trained`: NAME@NUMBER or a file, instead of the trained policy in force.
    """

    config_path: Path
    sources: Sequence[str]
    route: str
    since: str
    trained: str | None
    confidence: float
    as_json: bool


def run_replay(asked: Asked) -> str:
    """The policy of the route in the candidate's configuration, next to the logged one, as text or JSON.

    Raises ConfigError, and NoSupport (exit status 3) where the log says nothing of the candidate.
    """
    settings, prepared = _prepare(asked, tuned=False)
    replayed = replay(prepared, settings.config.retention.min_pairs, 1 - asked.confidence)
    tell = show.replay_json if asked.as_json else show.replay_text
    return tell(prepared, replayed, asked.confidence)


def run_tune(asked: Asked, max_loss: float | None) -> str:
    """The operating points of the route's policy, and the YAML of the one certified for `max_loss` (default: 5%).

    Errors as of `run_replay`.
    """
    settings, prepared = _prepare(asked, tuned=True)
    require_audited(prepared, settings.config.retention.min_pairs)
    wanted = max_loss or USUAL_MAX_LOSS
    config = settings.config.routes[asked.route]
    tuned = tune(prepared, config.policy, sorted({*LEVELS, wanted}), 1 - asked.confidence)
    proposed = _proposed(tuned.certified, wanted)
    if asked.as_json:
        return show.tune_json(prepared, tuned, proposed, asked.confidence)
    return show.tune_text(prepared, tuned, config, proposed, asked.confidence)


def _prepare(asked: Asked, *, tuned: bool) -> tuple[Settings, Prepared]:
    settings, route, trained = load(asked.config_path, upstream_keys=False), asked.route, asked.trained
    if route not in settings.config.routes:
        raise ConfigError(f"unknown route '{route}'; known: {', '.join(settings.config.routes) or 'none'}")
    config = settings.config.routes[route].policy
    if tuned:
        require_points(config)
    require_replayable(config, tuned=tuned)
    slots, until = Slots(), -inf
    name = config.trained_for(route)
    if name is not None:
        slots.named(name).current, until = _trained(settings, trained or name)
    elif trained is not None:
        raise ConfigError(f"--trained {trained}: the route's policy learns nothing")
    policy, controls = config.build(route, slots), config.controls()
    if tuned and controls.threshold is None and (controls.pace or controls.floor):
        policy = policy.at(ANY_POINT)  # pace and floor stand still, and something must decide
    log = read_log(settings, asked.sources, served_on(settings, route), asked.since)
    return settings, prepare(settings, route, policy, log, until)


def _proposed(certified: Sequence[Operating], max_loss: float) -> Operating | None:
    """The one for that level, or else for the highest below it."""
    return next((each for each in reversed(certified) if each.max_loss is not None and each.max_loss <= max_loss), None)


def _trained(settings: Settings, what: str) -> tuple[Trained, float]:
    """A trained policy, and up to when (Unix time) it may have learned from the log. Raises ConfigError."""
    path = path_of(what) or Path(what)
    if path_of(what) or path.is_file():
        return _with_time(read_trained(path))
    name, at, number = what.partition("@")
    if at and not number.isdecimal():
        raise ConfigError(f"--trained {what}: expected NAME, NAME@NUMBER or a file, such as auto:difficulty@3")

    async def read(store: TrainedStore) -> tuple[Stored, bytes]:
        stored = await store.find(name, int(number) if at else None)
        return stored, await store.file(name, stored.number)

    stored, data = with_store(settings, read)
    try:
        trained = artifact.loads(data)
    except ValueError as error:
        raise ConfigError(f"{name}@{stored.number}: {error}") from error
    return _with_time(trained) if stored.record.origin == "file" else (trained, stored.record.until)


def _with_time(trained: Trained) -> tuple[Trained, float]:
    """A file need not say what it learned from; then all that is not held back may be in it."""
    return trained, float(trained.report.get("until") or inf)
