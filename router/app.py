"""`create_app`: the one place where the application is put together. Importing this module does nothing."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.api.admin import router as admin_router
from router.api.decisions import router as decisions_router
from router.api.feedback import router as feedback_router
from router.api.generate import Generate
from router.api.models import router as models_router
from router.api.status import router as status_router
from router.api.usage import router as usage_router
from router.client import request_id_of
from router.errors import BadRequest, MethodNotAllowed, NotFound, RouterError
from router.gateway import Gateway
from router.lifeline import take_hangup
from router.record.metrics import Metrics
from router.request import Endpoint
from router.settings import Settings

HOT_PATHS: dict[str, Endpoint] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}


class GatewayApp(FastAPI):
    """A FastAPI application that answers POSTs to the hot paths without FastAPI's stack (about 85 us a request)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.raw: dict[str, ASGIApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            handler = self.raw.get(scope["path"])
            if handler is not None:
                await handler(scope, receive, send)
                return
        await super().__call__(scope, receive, _with_request_id(scope, send))


def create_app(
    settings: Settings,
    *,
    redis_url: str | None = None,
    config_path: Path | None = None,
    shared_dir: Path | None = None,
) -> GatewayApp:
    """The gateway as an ASGI application.

    `redis_url`: where evidence goes (None: the disk spool). `config_path`: the file to reload. `shared_dir`: of several
    workers, and already in the environment when prometheus-client was imported.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        gateway = Gateway(settings, Metrics(shared_dir), redis_url, config_path, shared_dir)
        app.state.gateway = gateway
        app.raw = {path: Generate(gateway, endpoint) for path, endpoint in HOT_PATHS.items()}  # type: ignore[attr-defined]
        await gateway.start()
        _reload_on_hangup(gateway)
        try:
            yield
        finally:
            await gateway.close()

    app = GatewayApp(title="distill-router", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(models_router)
    app.include_router(status_router)
    app.include_router(usage_router)
    app.include_router(admin_router)
    app.include_router(decisions_router)
    app.include_router(feedback_router)
    app.add_exception_handler(RouterError, _render)
    app.add_exception_handler(HTTPException, _render_http)
    app.add_exception_handler(RequestValidationError, _render_invalid)
    app.add_exception_handler(Exception, _render_unexpected)
    return app


def _with_request_id(scope: Scope, send: Send) -> Send:
    """Every answer carries the request's id, the client's own where it sent one."""
    if scope["type"] != "http":
        return send
    request_id = request_id_of(scope["headers"])

    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
        await send(message)

    return send_with_id


async def _render_unexpected(request: Request, error: Exception) -> Response:
    """No traceback reaches a client; uvicorn logs it."""
    return await _render(request, RouterError("internal error; the log has more"))


async def _render(request: Request, error: Exception) -> Response:
    assert isinstance(error, RouterError)
    headers = {} if error.retry_after_s is None else {"retry-after": str(max(1, round(error.retry_after_s)))}
    return JSONResponse(error.body(), error.status, headers)


async def _render_invalid(request: Request, error: Exception) -> Response:
    """What FastAPI refuses of the query, in OpenAI's form."""
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    name = str(problem["loc"][-1])
    return await _render(request, BadRequest(f"{name}: {problem['msg']}", param=name))


async def _render_http(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in OpenAI's form."""
    assert isinstance(error, HTTPException)
    if error.status_code == MethodNotAllowed.status or request.url.path in HOT_PATHS:
        known: RouterError = MethodNotAllowed(f"{request.method} is not allowed on {request.url.path}")
    else:
        known = NotFound(f"unknown path {request.method} {request.url.path}")
    return JSONResponse(known.body(), known.status)


def _reload_on_hangup(gateway: Gateway) -> None:
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, gateway.wants_reload.set)
        take_hangup()
