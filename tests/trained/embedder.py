"""A server that speaks `/v1/embeddings`, in a thread of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Embedder(ThreadingHTTPServer):
    """Gives each text `vector(text)`, in an order of its own; or `answer` (status, body), where there is one."""

    daemon_threads = True

    def __init__(self, vector: Callable[[str], list[float]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.vector = vector
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: tuple[int, bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Embedder

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(asked)
        self.server.keys.append(self.headers["authorization"])
        rows = [{"index": n, "embedding": self.server.vector(text)} for n, text in enumerate(asked["input"])]
        status, body = self.server.answer or (200, json.dumps({"data": rows[::-1]}).encode())
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(vector: Callable[[str], list[float]]) -> Iterator[Embedder]:
    with Embedder(vector) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
