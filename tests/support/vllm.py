"""Real vLLM servers on the CPU, as processes of their own from an environment of their own.

The facts about the build (options, traps) are those of constraints-vllm.txt. A server is started and waited for in two
steps, so that several load at the same time.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 15
LOG_LINES_SHOWN = 40

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "OMP_NUM_THREADS": "1",
}


class VllmNotStarted(Exception):
    """The server ended, or was not ready in time; the message ends with its log."""


@dataclass
class VllmServer:
    """One `python -m vllm.entrypoints.openai.api_server`, a context manager.

    `python` is that of the vLLM environment. Leaving the context kills the whole process group.
    """

    python: Path
    checkpoint: Path
    served_name: str
    log: Path
    dtype: str = "float32"
    context_tokens: int = 512
    tool_calls: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        self.port = self.port or _free_port(self.host)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), env=os.environ | ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
            )

    def _command(self) -> list[str]:
        # The `vllm` command of this build looks for the metadata of a distribution called vllm and fails.
        command = [str(self.python), "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", str(self.checkpoint), "--served-model-name", self.served_name]
        command += ["--host", self.host, "--port", str(self.port), "--dtype", self.dtype]
        command += ["--max-model-len", str(self.context_tokens), "--max-num-seqs", "8", "--enforce-eager"]
        if self.tool_calls:
            command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
        return command

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Until the server answers. Raises VllmNotStarted."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise VllmNotStarted(f"vLLM with {self.checkpoint} ended:\n{self._tail()}")
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self.base_url}/models", timeout=5).close()
                return
            time.sleep(0.5)
        raise VllmNotStarted(f"vLLM with {self.checkpoint} was not ready after {timeout_s:g} s:\n{self._tail()}")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal_number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
        # The leader is gone; its engine may not have followed.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
