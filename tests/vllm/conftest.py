"""The demo's checkpoints served by real vLLM, both at once, and by the embedded engine beside them.

`make test-vllm` names the Python of the vLLM environment; without it nothing here is collected.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from serving.embedded.server import DEMO_CHECKPOINTS, DEMO_MODELS
from tests.support.server_process import HOST, ServerProcess, free_port
from tests.support.vllm import START_TIMEOUT_S, vllm_server
from tests.vllm.parity import Differences

PYTHON_VARIABLE = "DISTILL_ROUTER_TEST_VLLM_PYTHON"
DTYPE_VARIABLE = "DISTILL_ROUTER_TEST_VLLM_DTYPE"
DTYPE = os.environ.get(DTYPE_VARIABLE, "float32")
ROOT = Path(__file__).parents[2]
EMBEDDED_START_TIMEOUT_S = 30

collect_ignore_glob = [] if PYTHON_VARIABLE in os.environ else ["test_*.py"]

Servers = dict[str, ServerProcess]
DIFFERENCES: pytest.StashKey[Differences] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[DIFFERENCES] = Differences()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[DIFFERENCES].summary():
        terminalreporter.write_line(f"embedded against vLLM ({DTYPE}): {line}")


@pytest.fixture(scope="session")
def differences(pytestconfig: pytest.Config) -> Differences:
    return pytestconfig.stash[DIFFERENCES]


@pytest.fixture(scope="session")
def vllm_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    logs = tmp_path_factory.mktemp("vllm")
    python = ROOT / os.environ[PYTHON_VARIABLE]
    servers = {
        model: vllm_server(python, DEMO_CHECKPOINTS / model, model, logs / f"{model}.log", dtype=DTYPE)
        for model in DEMO_MODELS
    }
    with _running(servers, START_TIMEOUT_S):
        yield servers


@pytest.fixture(scope="session")
def vllm_teacher(vllm_servers: Servers) -> ServerProcess:
    return vllm_servers["teacher"]


@pytest.fixture(scope="session")
def vllm_student(vllm_servers: Servers) -> ServerProcess:
    return vllm_servers["student"]


@pytest.fixture(scope="session")
def embedded_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    logs = tmp_path_factory.mktemp("embedded")
    servers = {model: _embedded_server(model, logs / f"{model}.log") for model in DEMO_MODELS}
    with _running(servers, EMBEDDED_START_TIMEOUT_S):
        yield servers


def _embedded_server(model: str, log: Path) -> ServerProcess:
    port = free_port()
    program = f"from serving.embedded.server import run; run({model!r}, {HOST!r}, {port})"
    return ServerProcess([sys.executable, "-c", program], model, port, log)


def _running(servers: Servers, timeout_s: float) -> ExitStack:
    """All of them started at once, and ready."""
    with ExitStack() as stack:
        for server in servers.values():
            stack.enter_context(server)
        for server in servers.values():
            server.wait_ready(timeout_s)
        return stack.pop_all()
