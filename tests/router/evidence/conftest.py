"""A Redis that a test may stop, freeze, start again and fill."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from router.bundled_redis import server_binary
from router.evidence.streams import shard_key
from router.lifeline import background_child
from tests.support.router_process import PATIENCE_S, until


class RedisProcess:
    """On a socket that stays the same over restarts; keeps nothing on disk unless told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder}/redis.sock"

    def start(self, *options: str) -> None:
        socket = self._folder / "redis.sock"
        self._process = subprocess.Popen(
            [server_binary(), *("--port", "0", "--unixsocket", str(socket), "--dir", str(self._folder)), *options],
            stdout=subprocess.DEVNULL,
            preexec_fn=background_child,
        )
        until(self._answers, "Redis")

    def stop(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(PATIENCE_S)
        self._process = None

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def freeze(self) -> None:
        """It accepts connections and never answers."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def call(self, *command: object) -> object:
        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*command)

    def records(self, stream: str, shard: int = 0) -> list[bytes]:
        with redis.Redis.from_url(self.url) as client:
            return [fields[b"r"] for _, fields in client.xrange(shard_key(shard, stream))]

    def _answers(self) -> bool:
        try:
            return bool(self.call("PING"))
        except redis.RedisError:
            return False


@pytest.fixture
def redis_process() -> Iterator[RedisProcess]:
    """Not started yet."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        process = RedisProcess(Path(folder))
        try:
            yield process
        finally:
            process.stop()
