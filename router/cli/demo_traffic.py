"""The demo's clients: mixed requests in OpenAI's format, every other one streamed, some at a time."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import Progress

from router.sse import SSEParser
from router.upstream.http import HttpPool
from router.upstream.transport import TransportError
from serving.demo.tasks import Example

AT_ONCE = 8
ROUTE = "auto"
TIMEOUT_S = 60.0
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: demo\r\ncontent-type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and what became of it. `model`: who answered, '' where nobody did."""

    example: Example
    answered: bool
    model: str
    latency_ms: float


async def send_all(console: Console, base_url: str, examples: list[Example], route: str = ROUTE) -> list[Sent]:
    """Send every example to the route, `AT_ONCE` in flight, with a progress bar."""
    pool = HttpPool(urlsplit(base_url), max_connections=AT_ONCE, connect_s=5)
    work = iter(enumerate(examples))
    sent: list[Sent] = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(f"requests to {route}", total=len(examples))

        async def client() -> None:
            for number, example in work:
                sent.append(await _send(pool, example, route, stream=number % 2 == 1))
                progress.advance(bar)

        await asyncio.gather(*itertools.starmap(client, [()] * AT_ONCE))
    await pool.close()
    return sent


async def _send(pool: HttpPool, example: Example, route: str, *, stream: bool) -> Sent:
    request: dict[str, Any] = {
        "model": route,
        "messages": [{"role": "user", "content": example.prompt}],
        "temperature": 0,
        "stream": stream,
    }
    if example.tools:
        request["tools"] = list(example.tools)
    started = time.perf_counter()
    deadline = asyncio.get_running_loop().time() + TIMEOUT_S
    try:
        response = await pool.send(HEAD, json.dumps(request).encode(), deadline, lambda _: None)
        status, headers = response.status, dict(response.headers)
        body = await response.read(deadline)
        response.close()
    except TransportError:
        return Sent(example, False, "", (time.perf_counter() - started) * 1e3)
    complete = _complete_stream(body) if stream else True
    latency_ms = (time.perf_counter() - started) * 1e3
    return Sent(example, status == 200 and complete, headers.get(b"x-router-model", b"").decode(), latency_ms)


def _complete_stream(body: bytes) -> bool:
    events = SSEParser().feed(body)
    return bool(events) and events[-1].data == b"[DONE]"
