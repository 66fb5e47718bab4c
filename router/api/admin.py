"""The admin API, for keys with the permission `admin`: API keys in Redis, budgets, the configuration in effect.

With `server.auth: none` everyone has every permission and may look, but no keys are made or revoked here: they would
outlast the setting. `distill-router keys` does it then.
"""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from router.api.budgets import all_budgets, forgive_budget
from router.api.common import read_body, redis_answers
from router.errors import BadRequest, Conflict, Forbidden
from router.evidence.redis import Unreachable
from router.gateway import Gateway
from router.key_settings import KeyTerms
from router.keys.issue import issue, listed, names_in_file
from router.keys.record import shown
from router.keys.store import KeyStore
from router.setting_errors import explain
from router.settings import masked

router = APIRouter(prefix="/v1/router")

NO_STORE = {"cache-control": "no-store"}


@router.get("/keys")
async def list_keys(request: Request) -> dict[str, Any]:
    """Every key of the file and of Redis, without hashes."""
    gateway = _admitted(request, "listing API keys")
    async with redis_answers():
        return {"object": "list", "data": await listed(gateway.key_store, gateway.runtime.config)}


@router.post("/keys")
async def create_key(request: Request) -> Response:
    """Body: what a key of the file has, without the hash. The answer holds the key, once."""
    gateway = _admitted(request, "creating an API key")
    store = _store(gateway)
    terms = _terms(await read_body(request, gateway.runtime.config.server.body_timeout_s))
    async with redis_answers():
        key, record = await issue(store, gateway.runtime.config, terms)
    await _follow(gateway)
    return JSONResponse({**shown(record), "key": key}, 201, NO_STORE)


@router.delete("/keys/{name:path}")
async def revoke_key(name: str, request: Request) -> dict[str, Any]:
    """From now on the key is refused, by other workers within about a second; running answers finish."""
    gateway = _admitted(request, "revoking an API key")
    store = _store(gateway)
    async with redis_answers():
        await store.revoke(name, names_in_file(gateway.runtime.config))
    await _follow(gateway)
    return {"name": name, "revoked": True}


@router.get("/budgets")
async def list_budgets(request: Request) -> dict[str, Any]:
    """Every budget in its current window."""
    gateway = _admitted(request, "looking at budgets")
    async with redis_answers():
        return {"object": "list", "data": await all_budgets(gateway)}


@router.post("/budgets/{budget:path}/forgive")
async def forgive(budget: str, request: Request, member: str = "") -> dict[str, Any]:
    """Give back what is only presumed spent: what workers held that died and left no proof."""
    gateway = _admitted(request, "forgiving what is presumed spent")
    async with redis_answers():
        return await forgive_budget(gateway, budget, member)


@router.get("/config")
async def get_config(request: Request) -> dict[str, Any]:
    """What is in effect in the worker that answers, secrets masked."""
    return masked(_admitted(request, "looking at the configuration").runtime.settings)


def _admitted(request: Request, what: str) -> Gateway:
    """Raises Unauthorized, Forbidden."""
    gateway: Gateway = request.app.state.gateway
    gateway.runtime.authenticator.caller(request.scope["headers"]).require("admin", what)
    return gateway


def _store(gateway: Gateway) -> KeyStore:
    if gateway.runtime.config.server.auth == "none":
        raise Forbidden("server.auth is none, anyone could do that: use the command `distill-router keys`")
    if gateway.key_store is None:
        raise Conflict("API keys are kept in Redis, and none is configured: set `redis`, or add the key to the file")
    return gateway.key_store


async def _follow(gateway: Gateway) -> None:
    """This worker need not wait for its next look; if Redis is gone by now, that one will do."""
    if gateway.keys:
        with contextlib.suppress(*Unreachable):
            await gateway.keys.refresh()


def _terms(body: bytes) -> KeyTerms:
    """Raises BadRequest, a line per problem."""
    try:
        return KeyTerms.model_validate_json(body)
    except ValidationError as error:
        raise BadRequest("\n".join(explain(error, KeyTerms.model_json_schema()))) from None
