"""`/v1/models`: the routes and models that the caller may name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from router.errors import UnknownModel
from router.gateway import Gateway

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    return {"object": "list", "data": [_model(name) for name in _visible(request)]}


@router.get("/v1/models/{name:path}")
async def get_model(name: str, request: Request) -> dict[str, Any]:
    if name not in _visible(request):
        raise UnknownModel(f"the model '{name}' does not exist or you do not have access to it", param="model")
    return _model(name)


def _visible(request: Request) -> list[str]:
    gateway: Gateway = request.app.state.gateway
    runtime = gateway.runtime
    return runtime.visible(runtime.authenticator.caller(request.scope["headers"]))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "distill-router"}
