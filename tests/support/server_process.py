"""A server as a process of its own: started, waited for, and killed with every child it has.

Starting and waiting are two steps, so that several servers load at the same time.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

STOP_TIMEOUT_S = 15
LOG_LINES_SHOWN = 150
"""vLLM prints the cause well before the end."""
HOST = "127.0.0.1"
PORTS = range(10_000, 32_000)


class ServerNotReady(Exception):
    """The server ended, or did not answer in time; the message ends with its log."""


def free_port() -> int:
    """Below those that the kernel gives to outgoing connections: none of them takes it before the server does."""
    while True:
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


@dataclass
class ServerProcess:
    """An OpenAI-compatible server that serves `model` on `port`, once its command runs. A context manager."""

    command: Sequence[str]
    model: str
    port: int
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.port}/v1"

    def __enter__(self) -> Self:
        """Starts; `wait_ready` waits."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command, env=os.environ | self.environment, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(self, *error: object) -> None:
        """Kills the whole process group: politely, then not."""
        process, self._process = self._process, None
        if process is None:
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            # The leader may be gone before its children are.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal_number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)

    def wait_ready(self, timeout_s: float) -> None:
        """Until the server lists its models. Raises ServerNotReady."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise ServerNotReady(f"{self.model}: the server ended:\n{self._tail()}")
            with suppress(OSError):
                urllib.request.urlopen(f"{self.base_url}/models", timeout=5).close()
                return
            time.sleep(0.2)
        raise ServerNotReady(f"{self.model}: not ready after {timeout_s:g} s:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
