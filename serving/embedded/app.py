"""Assembles the web application around an engine: routes, errors in OpenAI's shape, request ids and counters."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving.embedded.endpoints import CLIENT_CLOSED_REQUEST, Endpoints
from serving.embedded.engine import Engine
from serving.embedded.errors import EngineError, error_body
from serving.embedded.middleware import RequestContext


def build_app(engine: Engine, model: str) -> FastAPI:
    """The application that serves the engine as `model`; it starts and stops the engine with itself."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        engine.stop()

    app = FastAPI(title="embedded engine", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    endpoints = Endpoints(engine, model, created=int(time.time()))
    app.post("/v1/chat/completions")(endpoints.chat)
    app.post("/v1/completions")(endpoints.completions)
    app.post("/v1/embeddings")(endpoints.embeddings)
    app.get("/v1/models")(endpoints.models)
    app.get("/v1/models/{name:path}")(endpoints.one_model)
    app.get("/health")(endpoints.health)
    app.get("/metrics")(endpoints.metrics)
    app.add_middleware(RequestContext, metrics=engine.metrics)
    app.add_exception_handler(EngineError, _render_engine_error)
    app.add_exception_handler(HTTPException, _render_http_error)
    app.add_exception_handler(ClientDisconnect, _render_nothing)
    app.add_exception_handler(Exception, _render_engine_error)
    return app


async def _render_engine_error(_: Request, error: Exception) -> Response:
    """An error of ours as it says of itself; any other (logged by the server) without its details."""
    if not isinstance(error, EngineError):
        error = EngineError("The engine failed on this request; the server's log says why.")
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    return JSONResponse(error.body(), error.status, headers)


async def _render_http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses: unknown paths and methods."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = f"{request.method} {request.url.path} is not served here."
    body = error_body(message, type_="invalid_request_error", code=codes.get(status))
    return JSONResponse(body, status)


async def _render_nothing(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
