"""Sets resource limits on itself and becomes another program: `launcher.py LIMITS ARGV…`, LIMITS as JSON.

A program of its own, because limits that are set between fork and exec of a threaded process can deadlock it. It knows
nothing of what it starts. Limits that the system refuses stay as they are.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

CANNOT_RUN = 127


def main() -> None:
    limits: dict[str, int] = json.loads(sys.argv[1])
    argv = sys.argv[2:]
    processes = limits.pop("processes", None)
    for name, value in limits.items():
        _limit(getattr(resource, f"RLIMIT_{name}"), value)
    _limit(resource.RLIMIT_CORE, 0)
    if processes is not None:  # the system counts what runs already under this user
        _limit(resource.RLIMIT_NPROC, sum(_threads_of(os.getuid())) + processes)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error.strerror}\n")
        sys.exit(CANNOT_RUN)


def _limit(which: int, value: int) -> None:
    _, most = resource.getrlimit(which)
    lowest = value if most == resource.RLIM_INFINITY else min(value, most)
    try:
        resource.setrlimit(which, (lowest, lowest))
    except (OSError, ValueError):
        return


def _threads_of(user: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid == user:
                yield len(list((entry / "task").iterdir()))
        except OSError:  # it has ended
            continue


if __name__ == "__main__":
    main()
