"""Many requests at once: fair turns, a bounded queue, hanging up, stopping. Order is asserted, never time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from openai import OpenAI, RateLimitError
from openai.types import Completion

from serving.embedded.checkpoint import LlamaConfig
from serving.embedded.errors import EngineError, EngineStopped
from serving.embedded.model import LlamaModel
from serving.embedded.scheduler import Event, Job, Limits, Scheduler
from serving.embedded.sequence import Embedding
from serving.embedded.server import create_app
from tests.serving.embedded.conftest import client_of, eventually, metric, served
from tests.serving.embedded.tiny import CONFIG, CONTEXT_TOKENS, random_weights

LONG_ANSWER: dict[str, Any] = {"max_tokens": CONTEXT_TOKENS - 100, "temperature": 0, "extra_body": {"ignore_eos": True}}
LONG_BODY: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "x"}],
    "max_tokens": CONTEXT_TOKENS - 100,
    "ignore_eos": True,
}


@pytest.fixture(scope="module")
def narrow(tiny_checkpoint: Path) -> Iterator[str]:
    """An engine with one place in the batch and one in the queue."""
    with served(create_app(tiny_checkpoint, max_num_seqs=1, max_waiting=1)) as address:
        yield address


@pytest.fixture
def narrow_client(narrow: str) -> Iterator[OpenAI]:
    with client_of(narrow) as client:
        yield client


def open_request(address: str, path: str = "/v1/chat/completions", **fields: Any) -> socket.socket:
    """Send a request for a long answer and leave the connection open."""
    request = httpx.Request("POST", address + path, json={**LONG_BODY, **fields})
    target = urlsplit(address)
    connection = socket.create_connection((target.hostname, target.port))
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(request.content)}\r\n\r\n"
    connection.sendall(head.encode() + request.content)
    return connection


def running(address: str) -> float:
    return metric(address, "sequences_running")


def waiting(address: str) -> float:
    return metric(address, "sequences_waiting")


def test_a_short_request_overtakes_a_long_one(client: OpenAI) -> None:
    long = client.completions.create(model="tiny", prompt="long", stream=True, **LONG_ANSWER)
    next(iter(long))
    short = client.completions.create(model="tiny", prompt="short", max_tokens=2)
    assert short.choices[0].finish_reason is not None
    left = sum(1 for _ in long)
    assert left > 100


def test_a_long_prompt_does_not_stop_the_answers_of_others(client: OpenAI) -> None:
    """The prompt is read in many steps; another answer grows in each of them."""
    with ThreadPoolExecutor(1) as pool:
        answer = client.completions.create(model="tiny", prompt="x", stream=True, **LONG_ANSWER)
        next(iter(answer))
        reading = pool.submit(client.embeddings.create, model="tiny", input="y" * CONTEXT_TOKENS)
        grown = 0
        for _ in answer:
            grown += 1
            if reading.done():
                break
        assert reading.result().usage.prompt_tokens == CONTEXT_TOKENS
        answer.close()
    assert grown > 1


def test_answers_in_a_crowd_are_those_given_alone(client: OpenAI) -> None:
    def answer(number: int) -> str:
        asked: dict[str, Any] = {"temperature": 0.8, "seed": number, "max_tokens": 20 + number}
        completion: Completion = client.completions.create(model="tiny", prompt="p" * (number + 1), **asked)
        return completion.choices[0].text

    alone = [answer(number) for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(answer, range(20))) == alone


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_client_that_hangs_up_frees_its_places(tiny: str, path: str, stream: bool) -> None:
    connection = open_request(tiny, path, stream=stream, n=4, prompt="x")
    eventually(lambda: running(tiny) == 4)
    completion_tokens = metric(tiny, "tokens_total", kind="completion")
    connection.close()
    eventually(lambda: running(tiny) == 0)
    written = metric(tiny, "tokens_total", kind="completion") - completion_tokens
    assert written < 4 * LONG_BODY["max_tokens"]


def test_a_client_that_hangs_up_while_waiting_leaves_the_queue(narrow: str) -> None:
    first = open_request(narrow)
    eventually(lambda: running(narrow) == 1)
    second = open_request(narrow)
    eventually(lambda: waiting(narrow) == 1)
    second.close()
    eventually(lambda: waiting(narrow) == 0)
    assert running(narrow) == 1
    first.close()
    eventually(lambda: running(narrow) == 0)


def test_the_queue_moves_up_when_a_place_is_free(narrow: str, narrow_client: OpenAI) -> None:
    first = open_request(narrow)
    eventually(lambda: running(narrow) == 1)
    with ThreadPoolExecutor(1) as pool:
        queued = pool.submit(narrow_client.completions.create, model="tiny", prompt="x", max_tokens=3)
        eventually(lambda: waiting(narrow) == 1)
        first.close()
        assert queued.result().usage is not None


def test_a_full_queue_is_too_many_requests(narrow: str, narrow_client: OpenAI) -> None:
    connections = [open_request(narrow)]
    eventually(lambda: running(narrow) == 1)
    connections.append(open_request(narrow))
    eventually(lambda: waiting(narrow) == 1)
    with pytest.raises(RateLimitError) as refusal:
        narrow_client.completions.create(model="tiny", prompt="x")
    assert refusal.value.code == "rate_limit_exceeded"
    assert refusal.value.response.headers["retry-after"] == "1"
    for connection in connections:
        connection.close()
    eventually(lambda: running(narrow) + waiting(narrow) == 0)


def test_a_request_larger_than_the_queue_is_served_in_turns(narrow_client: OpenAI) -> None:
    answer = narrow_client.embeddings.create(model="tiny", input=["a", "b", "c", "d"])
    assert [entry.index for entry in answer.data] == [0, 1, 2, 3]


def test_a_server_that_stops_does_not_wait_for_long_answers(tiny_checkpoint: Path) -> None:
    with served(create_app(tiny_checkpoint, max_num_seqs=1)) as address:
        connection = open_request(address, stream=True, n=64)
        eventually(lambda: (running(address), waiting(address)) == (1, 63))
    received = b""
    while part := connection.recv(65536):
        received += part
    connection.close()
    assert received.startswith(b"HTTP/1.1 200")
    assert b"[DONE]" not in received


def test_what_was_not_finished_when_the_engine_stopped_is_told_so() -> None:
    config = LlamaConfig.model_validate(CONFIG)
    events: list[Event] = []
    scheduler = Scheduler(LlamaModel(config, random_weights(config)), Limits(max_num_seqs=2), events.extend)
    scheduler.start()
    jobs = [Job(Embedding([1] * CONTEXT_TOKENS), events.append) for _ in range(20)]
    scheduler.submit(jobs)
    scheduler.stop()
    assert {event.job for event in events} == set(jobs)
    assert len(events) == len(jobs)
    assert isinstance(events[-1].output, EngineStopped)


class BrokenModel(LlamaModel):
    """Fails on a token of its own, as only a bug would."""

    def forward(self, chunks: Any) -> Any:
        if any(13 in chunk.token_ids for chunk in chunks):
            raise RuntimeError("unlucky")
        return super().forward(chunks)


def test_a_step_that_fails_ends_its_batch_and_not_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    config = LlamaConfig.model_validate(CONFIG)
    events: list[Event] = []
    scheduler = Scheduler(BrokenModel(config, random_weights(config)), Limits(), events.extend)
    scheduler.start()
    scheduler.submit([Job(Embedding([1, 13]), events.append)])
    eventually(lambda: len(events) == 1)
    scheduler.submit([Job(Embedding([1, 2]), events.append)])
    eventually(lambda: len(events) == 2)
    scheduler.stop()
    assert [isinstance(event.output, EngineError) for event in events] == [True, False]
    assert "unlucky" in caplog.text
    with pytest.raises(EngineStopped):
        scheduler.submit([Job(Embedding([1]), events.append)])


def test_the_process_serves_a_folder_and_ends_on_sigterm(tiny_checkpoint: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = f"from serving.embedded.server import run; run({str(tiny_checkpoint)!r}, port={port})"
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen([sys.executable, "-c", program], cwd=root, env=dict(os.environ), stderr=subprocess.PIPE)
    try:
        address = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(f"{address}/health"))
        with client_of(address) as client:
            assert client.completions.create(model="tiny", prompt="x").choices
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    assert b"Traceback" not in log


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
