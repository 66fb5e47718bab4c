"""`/healthz` (alive), `/readyz` (takes traffic), `/metrics` (Prometheus)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from router.gateway import Gateway

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """200 while the event loop turns."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """200 once started and until the shutdown begins. Models that are down are listed but do not make it unready:
    taking every gateway out of service would help nobody."""
    gateway: Gateway = request.app.state.gateway
    models: dict[str, Any] = {
        name: {replica.name: replica.healthy and not replica.circuit.is_open for replica in model.replicas}
        for name, model in gateway.runtime.models.items()
    }
    status = "ok" if gateway.ready else "stopping"
    return JSONResponse({"status": status, "models": models}, 200 if gateway.ready else 503)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """All series; with several workers the sum over them. Runs in a thread: adding up takes milliseconds."""
    gateway: Gateway = request.app.state.gateway
    if gateway.runtime.config.server.metrics == "admin":
        gateway.runtime.authenticator.caller(request.scope["headers"]).require("admin", "/metrics")
    return Response(gateway.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
