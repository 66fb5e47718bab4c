"""A Redis server of its own process on a folder: killed, and started again on what it left."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

import redis

from router.bundled_redis import server_binary
from router.ledger.status import declare_nothing

START_S = 30.0


class RedisProcess:
    """A context manager. `appendfsync`: as in redis.conf; `binary`: the server, else the one that a gateway would take.

    A fresh one is told that no worker holds anything.
    """

    def __init__(self, folder: Path, appendfsync: str = "everysec", binary: str | None = None) -> None:
        self._data = folder / "redis"
        self._socket = folder / "redis.sock"
        self._appendfsync = appendfsync
        self._binary = binary or server_binary()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def __enter__(self) -> Self:
        self._data.mkdir()
        self.start()
        declare_nothing(self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Returns when it answers."""
        self._process = subprocess.Popen(
            [
                self._binary,
                *("--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._data), "--save", ""),
                *("--appendonly", "yes", "--appendfsync", self._appendfsync, "--logfile", str(self._data / "log")),
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < deadline, (self._data / "log").read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """It accepts connections and never answers."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def lose_everything(self) -> None:
        """What a killed server had on disk is gone."""
        shutil.rmtree(self._data)
        self._data.mkdir()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.ConnectionError:  # busy loading, too
            return False
