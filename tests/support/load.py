"""Many clients at once, each request on a connection of its own: what became of every one of them."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.support.server_process import HOST

Kind = Literal["answered", "refused", "hung up", "broken", "failed", "unexpected"]
PROMPT = "tell me about elephants, in so many words as you need; " * 6
MAX_TOKENS = 48
STREAM_BYTES = 3_000  # about an answer
ANSWER_S = 0.7
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Result:
    """One request. `began`, `ended`: Unix time; `port`: of the client's socket; `detail`: what nobody expected."""

    kind: Kind
    request_id: str
    key: str
    began: float
    ended: float
    port: int = 0
    model: str = ""
    decision_id: str = ""
    stream: bool = False
    detail: str = ""


@dataclass
class Load:
    """`clients` that ask again and again until `seconds` have passed. `keys`: API keys, taken in turn.

    `hang_ups`: the share of requests whose client leaves at a random moment; `streams`: the share that is streamed.
    """

    port: int
    clients: int
    seconds: float
    seed: int
    keys: tuple[str, ...] = ("",)
    hang_ups: float = 0.0
    streams: float = 0.5
    pause_s: float = 0.05
    refused_pause_s: float = 0.4
    results: list[Result] = field(default_factory=list)

    async def run(self) -> list[Result]:
        started = time.monotonic()
        await asyncio.gather(*(self._client(number, started + self.seconds) for number in range(self.clients)))
        return self.results

    async def _client(self, number: int, until: float) -> None:
        rng = random.Random(f"{self.seed}-{number}")
        key = self.keys[number % len(self.keys)]
        count = 0
        while count == 0 or time.monotonic() < until:
            request_id = f"r{self.seed}-{number}-{count}"
            result = await self._request(request_id, key, rng)
            self.results.append(result)
            count += 1
            pause = self.refused_pause_s if result.kind in ("refused", "broken", "failed") else self.pause_s
            await asyncio.sleep(pause * rng.uniform(0.5, 1.5))

    async def _request(self, request_id: str, key: str, rng: random.Random) -> Result:
        stream = rng.random() < self.streams
        leaves = rng.random() < self.hang_ups
        leave_bytes = rng.randrange(STREAM_BYTES) if leaves and stream else None
        leave_s = rng.uniform(0, ANSWER_S) if leaves and not stream else None
        began = time.time()
        answer = Answer()
        try:
            async with asyncio.timeout(PATIENCE_S):
                left = await answer.exchange(self.port, head_and_body(request_id, key, stream), leave_bytes, leave_s)
        except TimeoutError:
            return Result("unexpected", request_id, key, began, time.time(), answer.port, detail="no end")
        judged: tuple[Kind, str] = ("hung up", "") if left else answer.judge(stream)
        kind, detail = judged
        headers = answer.headers()
        return Result(
            kind, request_id, key, began, time.time(), answer.port,
            headers.get("x-router-model", ""), headers.get("x-router-decision-id", ""), stream, detail,
        )  # fmt: skip


def head_and_body(request_id: str, key: str, stream: bool) -> bytes:
    body = request_body(stream)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: {request_id}\r\n"
    if key:
        head += f"authorization: Bearer {key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def request_body(stream: bool) -> bytes:
    message = {"role": "user", "content": PROMPT}
    body: dict[str, Any] = {"model": "auto", "messages": [message], "max_tokens": MAX_TOKENS, "stream": stream}
    return json.dumps(body).encode()


class Answer:
    """What comes back on one connection, as far as it comes."""

    def __init__(self) -> None:
        self.port = 0
        self._data = b""

    async def exchange(self, port: int, request: bytes, leave_bytes: int | None, leave_s: float | None) -> bool:
        """Whether the client left before the end."""
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return False
        self.port = writer.get_extra_info("sockname")[1]
        try:
            writer.write(request)
            if leave_s is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(leave_s):
                        await self._read(reader, lambda: False)
                        return False
                return True
            return await self._read(reader, lambda: leave_bytes is not None and len(self._data) >= leave_bytes)
        except OSError:
            return False
        finally:
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, leaves: Callable[[], bool]) -> bool:
        while not leaves():
            data = await reader.read(65_536)
            if not data:
                return False
            self._data += data
        return True

    def headers(self) -> dict[str, str]:
        lines = self._data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def judge(self, stream: bool) -> tuple[Kind, str]:
        """Complete, refused for its budget in OpenAI's way, broken off, or something else."""
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator:
            return "broken", ""
        status = int(head.split(b" ", 2)[1])
        if status == 200 and stream:
            if body.endswith(b"0\r\n\r\n"):
                complete = b"data: [DONE]" in body
                return ("answered", "") if complete else ("unexpected", body[-300:].decode(errors="replace"))
            return "broken", ""
        if len(body) < int(self.headers().get("content-length", "0")):
            return "broken", ""
        if status >= 500:
            return "failed", self._data[:600].decode(errors="replace")
        error = json.loads(body).get("error")
        if status == 200 and error is None:
            return "answered", ""
        clean = status == 429 and error["code"] == "insufficient_quota" and int(self.headers()["retry-after"]) > 0
        return ("refused", "") if clean else ("unexpected", self._data[:600].decode(errors="replace"))
