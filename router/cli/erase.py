"""`distill-router disagreements erase`: remove what a person or key said, wherever it is, and keep it away."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import redis
import typer

from router.errors import ConfigError
from router.evidence.archive.group import DEAD
from router.evidence.erasing import InSpool, InStreams, Place
from router.evidence.erasure import ARCHIVES, Subject, Tombstones, bury, load_tombstones, now_s, parse_subject
from router.evidence.redis import Unreachable, connect_blocking
from router.evidence.streams import MAX_SHARDS, STREAMS, shard_key
from router.settings import Settings, load

if TYPE_CHECKING:
    from router.evidence.archive.store import Store

WAIT_S = 30.0  # longer than a running gateway's log keeps what Redis has
AGAIN_S = 0.5


@dataclass(slots=True)
class Erased:
    """By place: records that were removed, and those that are still there."""

    pairs: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)


def run_erase(config_path: Path, subject: str, archives: Sequence[str], yes: bool) -> tuple[str, bool]:
    """Erase what the subject said until now; what was removed where, and whether that is all. Raises ConfigError.

    It may be repeated at any time, and has to be where it was cut short.
    """
    settings, whom = load(config_path, upstream_keys=False), parse_subject(subject)
    stores = [_store(url) for url in archives]
    if not yes:
        typer.confirm(f"Remove for good what {whom} said until now, from {_where(settings, archives)}?", abort=True)
    at = now_s()
    client = connect_blocking(settings, "evidence")
    bury(settings, whom, at)
    tombstones = _bury_in(stores, load_tombstones(settings))
    places = _places(settings, client, stores, whom)
    erased = erase_everywhere(places, tombstones, WAIT_S if client else 0.0)
    forgotten = _forgotten(client, stores)
    return _told(whom, at, places, erased, forgotten), not (erased.left or forgotten)


def erase_everywhere(places: Sequence[Place], tombstones: Tombstones, wait_s: float) -> Erased:
    """Erase, and look again, until nothing is left or `wait_s` is over: a running gateway's log empties in between."""
    erased, pairs = Erased(), set[str]()
    deadline = time.monotonic() + wait_s
    while True:
        pairs.update(*(place.pairs(tombstones) for place in places))
        for place in places:
            erased.labels[place.name] += place.erase_labels(tombstones, pairs)
        for place in places:
            erased.pairs[place.name] += place.erase_pairs(tombstones)
        erased.left = +Counter({place.name: place.left(tombstones, pairs) for place in places})
        if not erased.left or time.monotonic() >= deadline:
            return erased
        time.sleep(AGAIN_S)


def _places(settings: Settings, client: redis.Redis | None, stores: Sequence[Store], subject: Subject) -> list[Place]:
    """The spool before Redis: what leaves it meanwhile goes there."""
    config = settings.config.evidence
    places: list[Place] = [InSpool(config.spool_dir, config.spool_max_bytes)]
    if client is not None:
        places.append(InStreams(client, max(config.shards, _shards(client)), subject))
    if stores:
        from router.evidence.archive.erase import InArchive

        places.extend(map(InArchive, stores))
    return places


def _shards(client: redis.Redis) -> int:
    """How many there are, or were while `evidence.shards` was higher: up to the last one with anything in it."""
    try:
        with client.pipeline(transaction=False) as pipe:
            for shard in range(MAX_SHARDS):
                pipe.exists(*(shard_key(shard, stream) for stream in (*STREAMS, DEAD)))
            found = pipe.execute()
    except Unreachable as error:
        raise ConfigError(f"redis: no answer: {error}") from error
    return max((shard + 1 for shard, keys in enumerate(found) if keys), default=0)


def _bury_in(stores: Sequence[Store], tombstones: Tombstones) -> Tombstones:
    """Every archive gets all tombstones, and what they say counts everywhere."""
    for store in stores:
        tombstones = tombstones.joined(store.tombstones())
    for store in stores:
        store.bury(tombstones)
    return tombstones


def _store(url: str) -> Store:
    try:
        from router.evidence.archive.store import Store
    except ImportError as error:
        raise ConfigError(
            f"--archive {url}: {error.name} is missing; the extra `archive` brings it: "
            "pip install 'distill-router[archive]'"
        ) from None
    store = Store(url)
    if not store.exists():
        raise ConfigError(f"--archive {url}: nothing is there")
    return store


def _forgotten(client: redis.Redis | None, stores: Sequence[Store]) -> list[str]:
    """Archives that were written from this Redis and were not named."""
    if client is None:
        return []
    try:
        known = {name.decode() for name in client.smembers(ARCHIVES) if isinstance(name, bytes)}
    except Unreachable as error:
        raise ConfigError(f"redis: no answer: {error}") from error
    return sorted(known - {store.name for store in stores})


def _where(settings: Settings, archives: Sequence[str]) -> str:
    live = ["Redis"] if settings.config.redis else []
    return ", ".join([*live, str(settings.config.evidence.spool_dir), *archives])


def _told(subject: Subject, at: float, places: Sequence[Place], erased: Erased, forgotten: Sequence[str]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    lines = [f"{subject} is erased until {when}; what is still found of it later is dropped where it is read."]
    for place in places:
        count = f"{erased.pairs[place.name]} pairs and {erased.labels[place.name]} labels"
        lines.append(f"  {place.name}: {count} removed, {erased.left[place.name] or 'none'} left")
    if erased.left:
        lines.append("What is left is in the logs of running gateways. Run this again when they have written or ended.")
    if not any(erased.pairs.values()) and not any(erased.labels.values()) and not erased.left:
        lines.append("Nothing of it was found: if that surprises you, check the name.")
    lines += [f"Not reached: {name} was archived to from here; name it with --archive." for name in forgotten]
    lines.append(
        "Decision rows stay: they hold no text, and bills are made from them. Exported files are yours to find."
    )
    return "\n".join(lines)
