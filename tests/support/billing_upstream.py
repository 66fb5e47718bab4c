"""An upstream of its own process that bills: what every call cost is on record before a byte of it leaves.

    with BillingUpstream(folder) as upstream:
        ...  # models `teacher` and `student` at upstream.base_url
        upstream.calls()  # what it billed, whatever became of gateways and clients

It is the other side of the ledger: a call is billed its prompt when it arrives and each token of its answer when it is
made. An answer takes as long as its tokens, whole or streamed, and ends early when the caller hangs up, like vLLM's.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import struct
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import uvloop

from tests.support.server_process import HOST, ServerProcess, free_port

MODELS = ("teacher", "student")
SLOTS = 65_536
SLOT = struct.Struct("<32sdBBxxiii")  # request id, Unix time, model, state; tokens: input, cached, output
SLOT_BYTES = 64
OUTPUT_AT = struct.calcsize("<32sdBBxxii")
STATE_AT = struct.calcsize("<32sdB")
RUNNING, COMPLETE, CUT_OFF = 1, 2, 3
STATES = MappingProxyType({RUNNING: "running", COMPLETE: "complete", CUT_OFF: "cut off"})

BYTES_PER_TOKEN = 4
TEMPLATE_TOKENS = 10
STUDENT_TOKENS = (2, 6)
STUDENT_TOKEN_S = 0.005


@dataclass(frozen=True)
class Call:
    """One call as it was billed; `request_id`: the header `x-request-id`."""

    request_id: str
    began: float
    model: str
    state: str
    input: int
    cached: int
    output: int

    def nano(self, prices: Mapping[str, float]) -> int:
        """What it costs at a model's configured prices per million tokens; they must be whole nano-dollars a token."""
        nano = {name: round(price * 1000) for name, price in prices.items()}
        cached = nano.get("cached_input", nano["input"])
        return (self.input - self.cached) * nano["input"] + self.cached * cached + self.output * nano["output"]


class Records:
    """The calls, in a file that every process may map."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(SLOTS * SLOT_BYTES)
            self._map = mmap.mmap(file.fileno(), SLOTS * SLOT_BYTES)
        self._used = 0

    def begin(self, request_id: str, model: str, usage: tuple[int, int]) -> int:
        """The call's slot."""
        slot, self._used = self._used, self._used + 1
        start = slot * SLOT_BYTES
        number = MODELS.index(model)
        SLOT.pack_into(self._map, start, request_id.encode()[:32], time.time(), number, RUNNING, *usage, 0)
        return start

    def output(self, start: int, tokens: int) -> None:
        struct.pack_into("<i", self._map, start + OUTPUT_AT, tokens)

    def end(self, start: int, state: int) -> None:
        self._map[start + STATE_AT] = state

    def read(self) -> list[Call]:
        calls = []
        for start in range(0, SLOTS * SLOT_BYTES, SLOT_BYTES):
            name, began, model, state, given, cached, output = SLOT.unpack_from(self._map, start)
            if not state:
                break
            text = name.rstrip(b"\0").decode()
            calls.append(Call(text, began, MODELS[model], STATES[state], given, cached, output))
        return calls

    def close(self) -> None:
        self._map.close()


class BillingUpstream:
    """A context manager around the process. `tokens`: the shortest and longest answer; `token_s`: what a token takes.

    `cached`: whether some prompts are partly found in the upstream's cache.
    """

    def __init__(self, folder: Path, tokens: tuple[int, int] = (8, 24), token_s: float = 0.03, *, cached: bool = True):
        self._port = free_port()
        self._path = folder / "billed"
        options = ["--port", self._port, "--record", self._path, "--tokens", *tokens, "--token-s", token_s]
        options += ["--cached"] * cached
        command = [sys.executable, "-m", __spec__.name, *map(str, options)]
        self._process = ServerProcess(command, "billing upstream", self._port, folder / "upstream.log")

    @property
    def base_url(self) -> str:
        return self._process.base_url

    def __enter__(self) -> BillingUpstream:
        self._records = Records(self._path)
        self._process.__enter__()
        self._process.wait_ready(30)
        return self

    def __exit__(self, *error: object) -> None:
        self._process.__exit__(*error)
        self._records.close()

    def calls(self, model: str = "teacher") -> list[Call]:
        return [call for call in self._records.read() if call.model == model]

    def running(self) -> int:
        return sum(call.state == "running" for call in self._records.read())


@dataclass(frozen=True)
class Manner:
    """How the teacher answers; the student is brief and fast."""

    tokens: tuple[int, int]
    token_s: float
    cached: bool

    def planned(self, model: str, seed: int, limit: int) -> int:
        least, most = self.tokens if model == "teacher" else STUDENT_TOKENS
        return min(least + seed % (most - least + 1), limit)

    def pace_s(self, model: str) -> float:
        return self.token_s if model == "teacher" else STUDENT_TOKEN_S


class _Connection(asyncio.Protocol):
    """HTTP/1.1 as the gateway speaks it: one request after another, with a content-length."""

    def __init__(self, records: Records, manner: Manner) -> None:
        self._records = records
        self._manner = manner
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert hasattr(transport, "write")  # uvloop's are no subclasses of asyncio's
        self._transport: Any = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        headers = _headers(head)
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        if head.startswith(b"GET"):
            self._send_whole(b'{"object":"list","data":[]}')
        else:
            self._task = asyncio.get_running_loop().create_task(self._answer(headers, rest[:length]))

    async def _answer(self, headers: Mapping[str, str], body: bytes) -> None:
        request = msgspec.json.decode(body)
        model, request_id = request["model"], headers["x-request-id"]
        seed = zlib.crc32(request_id.encode())
        planned = self._manner.planned(model, seed, request["max_tokens"])
        prompt = sum(len(message["content"]) for message in request["messages"]) // BYTES_PER_TOKEN + TEMPLATE_TOKENS
        usage = (prompt, seed % 3 * prompt // 4 if self._manner.cached else 0)
        slot = self._records.begin(request_id, model, usage)
        try:
            write = self._write_token if request.get("stream") else None
            if write:
                self._transport.write(EVENT_STREAM_HEAD)
            for number in range(planned):
                self._records.output(slot, number + 1)
                if write:
                    write()
                await asyncio.sleep(self._manner.pace_s(model))
            self._end(_usage(usage, planned), streams=write is not None)
            self._records.end(slot, COMPLETE)
        except asyncio.CancelledError:
            self._records.end(slot, CUT_OFF)

    def _write_token(self) -> None:
        self._transport.write(_chunk(TOKEN_EVENT))

    def _end(self, usage: bytes, *, streams: bool) -> None:
        if streams:
            last = b'data: {"id":"b","object":"chat.completion.chunk","choices":[],"usage":%b}\n\n' % usage
            self._transport.write(_chunk(END_EVENT) + _chunk(last) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        else:
            self._send_whole(WHOLE % usage)

    def _send_whole(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)


EVENT_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN_EVENT = (
    b'data: {"id":"b","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"w "},'
    b'"finish_reason":null}]}\n\n'
)
END_EVENT = (
    b'data: {"id":"b","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
WHOLE = (
    b'{"id":"b","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"w"},'
    b'"finish_reason":"stop"}],"usage":%b}'
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _usage(usage: tuple[int, int], output: int) -> bytes:
    given, cached = usage
    return msgspec.json.encode(
        {
            "prompt_tokens": given,
            "completion_tokens": output,
            "total_tokens": given + output,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    )


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def _serve(port: int, records: Records, manner: Manner) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(records, manner), HOST, port, backlog=2048)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--tokens", type=int, nargs=2, required=True)
    parser.add_argument("--token-s", type=float, required=True)
    parser.add_argument("--cached", action="store_true")
    options = parser.parse_args()
    manner = Manner(tuple(options.tokens), options.token_s, options.cached)
    uvloop.run(_serve(options.port, Records(options.record), manner))


if __name__ == "__main__":
    main()
