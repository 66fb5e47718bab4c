"""Processes seen from outside, through /proc: their children, CPU time, memory and scheduling class.

Linux only. CPU time is user plus system of a whole process tree, per thread in nanoseconds (schedstat), so that short
phases can be measured and a thread that ends between two reads costs little.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def tree(pid: int) -> list[int]:
    """The process and its descendants, parents first."""
    found: list[int] = []
    todo = [pid]
    while todo:
        parent = todo.pop()
        found.append(parent)
        for children in PROC.glob(f"{parent}/task/*/children"):
            with suppress(OSError):
                todo += map(int, children.read_text().split())
    return found


def cpu_ns(pid: int) -> dict[Path, int]:
    """CPU time so far of every thread of the tree."""
    times: dict[Path, int] = {}
    for process in tree(pid):
        for thread in PROC.glob(f"{process}/task/*/schedstat"):
            with suppress(OSError):
                times[thread] = int(thread.read_text().split()[0])
    return times


def cpu_us_since(before: dict[Path, int], after: dict[Path, int]) -> float:
    return sum(ns - before.get(thread, 0) for thread, ns in after.items()) / 1e3


def rss_mb(pid: int) -> float:
    kilobytes = 0
    for process in tree(pid):
        with suppress(OSError, StopIteration):
            lines = (PROC / str(process) / "status").read_text().splitlines()
            kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return round(kilobytes / 1024, 1)


def set_realtime(pids: Iterable[int], on: bool) -> None:
    """Round-robin class for light fixed-rate phases, so that busy neighbours do not show up as latency. Needs root."""
    policy, priority = (os.SCHED_RR, 1) if on else (os.SCHED_OTHER, 0)
    for pid in pids:
        for task in PROC.glob(f"{pid}/task/*"):
            with suppress(OSError):
                os.sched_setscheduler(int(task.name), policy, os.sched_param(priority))


def stop(process: subprocess.Popen[bytes], grace_s: float = 4) -> None:
    """SIGTERM, then SIGKILL, to the process and every descendant that it had."""
    pids = tree(process.pid)
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        _send(pids, signal_number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
            break
    _send(pids[1:], signal.SIGKILL)


def _send(pids: Iterable[int], signal_number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal_number)
