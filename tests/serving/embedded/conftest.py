"""Engines over real HTTP: the tiny random checkpoint, and the demo's own models."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from openai import OpenAI

from serving.embedded.server import DEMO_CHECKPOINTS, create_app
from tests.serving.embedded.tiny import write_checkpoint

Gauge = Callable[[str], float]
_PATIENCE_S = 20


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app on a free port of this machine; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail when it does not within a long time."""
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.005)


def metric(address: str, name: str, **labels: str) -> float:
    """One value of GET /metrics; 0 for a series that has not appeared."""
    wanted = f"distill_router_embedded_{name}"
    if labels:
        wanted += "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
    for line in httpx.get(f"{address}/metrics").text.splitlines():
        series, _, value = line.rpartition(" ")
        if series == wanted:
            return float(value)
    return 0.0


def client_of(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="package")
def tiny(tiny_checkpoint: Path) -> Iterator[str]:
    """The address of the tiny checkpoint's engine; its model is `tiny`."""
    with served(create_app(tiny_checkpoint)) as address:
        yield address


@pytest.fixture(scope="package")
def client(tiny: str) -> Iterator[OpenAI]:
    with client_of(tiny) as client:
        yield client


@pytest.fixture(scope="package")
def teacher() -> Iterator[OpenAI]:
    """The demo's teacher, through its client."""
    with served(create_app(DEMO_CHECKPOINTS / "teacher")) as address, client_of(address) as client:
        yield client
