"""`distill-router disagreements archive`: run the archiver until it is done, or until it is told to stop."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from router.errors import ConfigError
from router.evidence.redis import connect_blocking
from router.settings import load

if TYPE_CHECKING:
    from router.evidence.archive.archiver import Summary


def run_archive(config_path: Path, to: str, follow: bool, *, as_json: bool) -> None:
    """Archive what is in Redis; with `follow` until SIGINT or SIGTERM. Raises ConfigError."""
    settings = load(config_path, upstream_keys=False)
    try:
        from router.evidence.archive.archiver import Archiver
        from router.evidence.archive.lock import LEASE_S
        from router.evidence.archive.store import Store
    except ImportError as error:
        raise ConfigError(
            f"--to {to}: {error.name} is missing; the extra `archive` brings it: pip install 'distill-router[archive]'"
        ) from None
    client = connect_blocking(settings, "evidence")
    if client is None:
        raise ConfigError(
            "redis: an archive is made from Redis, and none is configured; without it evidence is in "
            f"evidence.spool_dir ({settings.config.evidence.spool_dir}), where export and losses read it"
        )
    store = Store(to)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    with client:
        archiver = Archiver(
            client,
            settings.config.evidence.shards,
            store,
            name,
            lease_s=LEASE_S,
            told=(lambda summary: _show(summary, as_json)) if follow else lambda _: None,
        )
        _show(archiver.follow(_stopped()) if follow else archiver.once(), as_json)


def _stopped() -> threading.Event:
    """Set by SIGINT and SIGTERM: what was read is written before the end."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    return stop


def _show(summary: Summary, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_plain(summary)), flush=True)
        return
    told = [
        f"archived in {summary.files} {'file' if summary.files == 1 else 'files'}: {_by_stream(summary.written)}",
        *(f"{what}: {_by_stream(counts)}" for counts, what in _exceptions(summary) if counts),
        *(f"left to the archiver that is at it: shard {shard}" for shard in sorted(summary.busy)),
    ]
    print("; ".join(told), flush=True)


def _exceptions(summary: Summary) -> list[tuple[Counter[str], str]]:
    return [
        (summary.known, "were there already"),
        (summary.erased, "left out, for their speaker was erased"),
        (summary.dead, "cannot be read, and are dead letters in Redis now"),
        (summary.gone, "lost, for Redis had trimmed them before they were archived"),
    ]


def _by_stream(counts: Counter[str]) -> str:
    return ", ".join(f"{stream} {counts[stream]}" for stream in sorted(counts)) or "nothing"


def _plain(summary: Summary) -> dict[str, Any]:
    counts = {name: dict(getattr(summary, name)) for name in ("written", "known", "erased", "dead", "gone")}
    return {**counts, "files": summary.files, "busy": sorted(summary.busy)}
