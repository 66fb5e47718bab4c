"""How processes that belong together live and die: children end with their parent, and wait for no lost signal."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int | None = None) -> None:
    """Linux: SIGTERM to this process when its parent is gone; elsewhere nothing. `parent`: if it is gone already."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def hold_hangup() -> None:
    """Keep SIGHUP pending in this thread, and in processes that it starts, until `take_hangup`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def take_hangup() -> None:
    """From now on SIGHUP reaches its handler, the one that is pending too."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


@contextlib.contextmanager
def held_hangup() -> Iterator[None]:
    hold_hangup()
    try:
        yield
    finally:
        take_hangup()


def background_child() -> None:
    """For `preexec_fn`: a Ctrl-C in the terminal is for the parent alone, its end is the child's too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def stop(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """SIGTERM, and SIGKILL for what does not end in time."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
