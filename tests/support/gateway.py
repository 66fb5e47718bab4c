"""The gateway in this process, under uvicorn on a free port, with everything a test wants to look at.

    async with running_gateway(two_models(teacher.url, student.url, policy={"kind": "split", …})) as gw:
        answer = await gw.openai.chat.completions.create(model="auto", messages=HI)
        assert (await gw.rows())[0].o == "ok"

Leaving the context stops the gateway and then checks what must hold for every test: no task, socket or place in flight
is left, and the decision rows add up to the metrics, in requests and in money.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import redis
import uvicorn
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from router.app import GatewayApp, create_app
from router.evidence.spool import read_spool
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS
from router.gateway import Gateway
from router.ledger.pricing import NANO_PER_USD
from router.ledger.status import declare_nothing
from router.record.row import DecisionRow, decode_row
from router.settings import parse

PATIENCE_S = 30.0
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
API_KEY = "sk-test"
HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
TEACHER_PRICE = {"input": 2.0, "cached_input": 0.2, "output": 8.0}
STUDENT_PRICE = {"input": 0.2, "output": 0.8}
PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
}
PROMPTS: Mapping[str, dict[str, Any]] = {
    "chat": {"messages": HI},
    "completions": {"prompt": "hi"},
    "responses": {"input": "hi"},
    "embeddings": {"input": "hi"},
}
Json = dict[str, Any]


def two_models(
    teacher: str,
    student: str,
    *,
    policy: Json | None = None,
    route: Json | None = None,
    models: Json | None = None,
    **top: Any,
) -> Json:
    """A configuration with the route `auto` and without keys. `models`: what goes into both models' blocks."""
    base = {"retries": 0, "health": {"interval_s": 3600}, **(models or {})}
    return {
        "server": {"auth": "none"},
        "models": {
            "teacher": {"base_urls": [teacher], "price": TEACHER_PRICE, **base},
            "student": {"base_urls": [student], "price": STUDENT_PRICE, **base},
        },
        "routes": {
            "auto": {
                "teacher": "teacher",
                "student": "student",
                "policy": policy or {"kind": "fixed", "model": "student"},
                **(route or {}),
            }
        },
        **top,
    }


def ask(endpoint: str, model: str = "auto", **more: Any) -> Json:
    """The smallest request body for an endpoint."""
    return {"model": model, **PROMPTS[endpoint], **more}


async def eventually(holds: Callable[[], Any], what: str = "the condition") -> None:
    """Wait until a condition holds; fail when it does not within a long time."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} never held"
        await asyncio.sleep(0.002)


@dataclass
class RunningGateway:
    """`url` has no `/v1`; `http` and `openai`, OpenAI's own client, send to it."""

    url: str
    app: GatewayApp
    http: httpx.AsyncClient
    spool: Path
    redis_url: str | None

    @cached_property
    def openai(self) -> AsyncOpenAI:
        """Made when a test wants it: it reads all certificates, which takes longer than many a test."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=API_KEY, max_retries=0)

    async def close_clients(self) -> None:
        await self.http.aclose()
        if "openai" in self.__dict__:
            await self.openai.close()

    @property
    def gateway(self) -> Gateway:
        gateway: Gateway = self.app.state.gateway
        return gateway

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """POST a body, JSON or bytes; header names with `_` for `-`."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, content=content, headers={"content-type": "application/json", **sent})

    async def ask(self, endpoint: str, model: str = "auto", **more: Any) -> httpx.Response:
        return await self.post(PATHS[endpoint], ask(endpoint, model, **more))

    async def idle(self) -> None:
        """No call in flight, no audit running, every row written."""
        models = self.gateway.runtime.models.values()
        await eventually(lambda: not any(model.in_flight for model in models), "an idle gateway")
        await self.gateway.auditor.idle()
        await self.gateway.writer.flush()

    async def rows(self, count: int = 0) -> list[DecisionRow]:
        """The decision rows of clients' requests, in order; waits for `count` of them."""
        return [row for row in await self.all_rows(count) if row.o != "shadow"]

    async def all_rows(self, count: int = 0) -> list[DecisionRow]:
        """With those of background calls."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            await self.idle()
            rows = [decode_row(record) for record in await self._records(DECISIONS)]
            if len(rows) >= count:
                return rows
            assert time.monotonic() < deadline, f"{count} rows never came: {rows}"
            await asyncio.sleep(0.01)

    async def row(self) -> DecisionRow:
        """The only row there is."""
        (row,) = await self.rows(1)
        return row

    async def pairs(self) -> list[Json]:
        """The audited pairs, disagreements first."""
        await self.idle()
        records = await self._records(DISAGREEMENTS) + await self._records(AGREEMENTS)
        return [json.loads(record) for record in records]

    async def _records(self, stream: str) -> list[bytes]:
        if self.redis_url is None:
            return await asyncio.to_thread(lambda: list(read_spool(self.spool, stream)))
        # A Redis that was too slow for a moment gets the rest from the disk.
        await eventually(lambda: self._unsent <= 0, "a Redis that has every record")
        return await asyncio.to_thread(_read_stream, self.redis_url, stream)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series of a metric (without the prefix) that carry these labels."""
        wanted = f"distill_router_{name}"
        return sum(
            sample.value
            for family in self.gateway.metrics.registry.collect()
            for sample in family.samples
            if sample.name == wanted and labels.items() <= sample.labels.items()
        )

    async def check_books(self) -> None:
        """Rows and metrics tell the same story."""
        rows = await self.all_rows()
        spent = sum(sum(row.c.values()) for row in rows)
        assert round(self.metric("cost_usd_total") * NANO_PER_USD) == spent
        # nobody to write a row for
        strangers = sum(self.metric("decisions_total", reason=r) for r in ("invalid_api_key", "service_unavailable"))
        assert self.metric("requests_total") - strangers == sum(1 for row in rows if row.o != "shadow")

    @property
    def _unsent(self) -> float:
        """Records that are neither in Redis nor dropped; below 0 where those of a dead process came, too."""
        return self.metric("records_produced_total") - sum(
            map(self.metric, ("records_written_total", "records_dropped_total"))
        )


def _read_stream(url: str, stream: str) -> list[bytes]:
    with redis.Redis.from_url(url) as client:
        keys = sorted(client.scan_iter(match=f"distill-router:{{evidence-*}}:{stream}"))
        return [fields[b"r"] for key in keys for _, fields in client.xrange(key)]


def flush(url: str) -> None:
    """Empty, and as if it had just been started for this gateway alone."""
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    declare_nothing(url)


@asynccontextmanager
async def running_gateway(
    config: Json,
    *,
    redis_url: str | None = None,
    alone: bool = True,
    environ: Mapping[str, str] | None = None,
    config_path: Path | None = None,
) -> AsyncIterator[RunningGateway]:
    """`config`: parsed YAML, complete but for `evidence` and `ledger`. `redis_url`: emptied first; None: rows go to the
    spool. `alone` False: other gateways use the same Redis, so that it is not emptied and its rows are not all ours."""
    tasks = asyncio.all_tasks()
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder) / "spool"
        config = {
            "evidence": {"spool_dir": str(spool)},
            **config,
            "ledger": {"state_dir": str(Path(folder) / "ledger"), **config.get("ledger", {})},
        }
        if redis_url and alone:
            await asyncio.to_thread(flush, redis_url)
        app = create_app(parse(json.dumps(config), environ or {}), redis_url=redis_url, config_path=config_path)
        async with _served(app) as url:
            http = httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, verify=NO_CERTIFICATES)
            running = RunningGateway(url, app, http, spool, redis_url)
            try:
                yield running
                if alone:
                    await running.check_books()
            finally:
                await running.close_clients()
        await _nothing_left(app, tasks)


@asynccontextmanager
async def _served(app: GatewayApp) -> AsyncIterator[str]:
    """By the steps of `uvicorn.Server.serve` and `shutdown`, without their sleeps of a tenth of a second."""
    config = uvicorn.Config(app, port=0, log_config=None, ws="none", access_log=False, timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    assert server.started, "the gateway did not start; the log says why"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        for listening in server.servers:
            listening.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        await eventually(lambda: not server.server_state.connections, "a server without connections")
        await eventually(lambda: not server.server_state.tasks, "a server without requests")
        await server.lifespan.shutdown()


async def _nothing_left(app: GatewayApp, tasks: set[asyncio.Task[Any]]) -> None:
    gateway: Gateway = app.state.gateway
    for model in gateway.runtime.models.values():
        assert model.in_flight == 0
        assert [replica.in_flight for replica in model.replicas] == [0] * len(model.replicas)
    await eventually(lambda: not _left(tasks), f"the end of {_left(tasks)}")


def _left(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Tasks that were not there before; those of a scripted upstream end with the gateway's connections."""
    current = asyncio.current_task()
    return {task for task in asyncio.all_tasks() - tasks if task is not current}
