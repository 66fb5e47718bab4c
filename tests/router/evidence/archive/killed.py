"""Runs an archiver that kills itself before its n-th step, for every n: `python -m … REDIS_URL FOLDER_OF_ARCHIVES`.

A step is a command to Redis or a change in the folder. After each killed archiver another one finishes the work, and
the streams are told to start anew in a folder of their own. Prints one line a step: the number, the signal that ended
the first archiver, and the folder.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import redis

from router.evidence.archive.archiver import Archiver
from router.evidence.archive.group import GROUP
from router.evidence.archive.store import Store, nothing
from router.evidence.streams import STREAMS, shard_key

LEASE_S = 30.0
MOST_STEPS = 500


class Steps:
    """SIGKILL before the n-th step."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class SteppingRedis(redis.Redis):
    steps = Steps(0)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] != "EVAL":  # the locks' own thread would make the count one of chance
            self.steps.step()
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # untyped there


class SteppingStore(Store):
    def __init__(self, url: str, steps: Steps) -> None:
        super().__init__(url)
        self._steps = steps

    def put(self, path: str, data: bytes, before: Callable[[], None] = nothing) -> None:
        def ready() -> None:
            before()
            self._steps.step()

        self._steps.step()
        super().put(path, data, ready)
        self._steps.step()


def archive_killed(url: str, folder: Path, step: int) -> int:
    """In a process of its own; the signal that ended it, 0: it finished."""
    child = os.fork()
    if child == 0:
        steps = Steps(step)
        SteppingRedis.steps = steps
        client = SteppingRedis.from_url(url)
        Archiver(client, 1, SteppingStore(str(folder), steps), f"killed-{step}", lease_s=LEASE_S).once()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finish(url: str, folder: Path) -> None:
    child = os.fork()
    if child == 0:
        with redis.Redis.from_url(url) as client:
            client.delete(shard_key(0, "archiver"))  # the dead one's lease ends
            Archiver(client, 1, Store(str(folder)), "finisher", lease_s=LEASE_S).once()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def main() -> None:
    url, folders = sys.argv[1], Path(sys.argv[2])
    pyarrow.array([0])  # imports pandas where it is installed: once, not in every child
    for step in range(1, MOST_STEPS):
        folder = folders / f"{step:03d}"
        status = archive_killed(url, folder, step)
        finish(url, folder)
        print(step, -status, folder, flush=True)
        if status == 0:
            return
        with redis.Redis.from_url(url) as client:
            for stream in STREAMS:
                client.xgroup_destroy(shard_key(0, stream), GROUP)
    raise SystemExit("the archiver never finished")


if __name__ == "__main__":
    main()
