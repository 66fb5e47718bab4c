"""`GET /v1/router/decisions/{id}`: why one request went where it went, what it cost, and what a comparison found.

For the API key whose request it was, without texts; with `?texts=true` for the permission `admin`, which sees every
request. Whatever a caller may not see is a 404, the same as for an id that never was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Request

from router.api.common import redis_answers
from router.auth import Caller
from router.errors import BadRequest, ConfigError, NotFound, TooManyRequests, Unavailable
from router.evidence.explain import explained
from router.evidence.find import ID, find, find_row
from router.gateway import Gateway
from router.record.row import DecisionRow

router = APIRouter(prefix="/v1/router")

AT_ONCE = 1  # searches of a worker
AT_ONCE_OF_A_KEY = 4  # running or waiting
BUSY_S = 1


class Searches:
    """How many searches run: each reads through a stream, and must leave Redis to those that serve requests."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)
        self.of_key: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def place(self, key: str) -> AsyncIterator[None]:
        """Waits for a place. Raises TooManyRequests when the key has enough waiting."""
        if self.of_key[key] >= AT_ONCE_OF_A_KEY:
            raise TooManyRequests("too many look-ups of this key are running; wait for an answer", retry_after_s=BUSY_S)
        self.of_key[key] += 1
        try:
            async with self._places:
                yield
        finally:
            self.of_key[key] -= 1
            if not self.of_key[key]:
                del self.of_key[key]


_searches: WeakKeyDictionary[Gateway, Searches] = WeakKeyDictionary()


@router.get("/decisions/{decision_id}")
async def get_decision(decision_id: str, request: Request, texts: bool = False) -> dict[str, Any]:
    """`texts`: the prompt, both answers and the diff of a compared request."""
    gateway: Gateway = request.app.state.gateway
    runtime = gateway.runtime
    caller = runtime.authenticator.caller(request.scope["headers"])
    if texts:
        caller.require("admin", "the texts of a pair")
    check_id(decision_id)
    async with searching(gateway, caller):
        found = await find(runtime.settings, decision_id, visible_to(caller))
    if found is None:
        raise unknown(decision_id)
    return explained(found, texts=texts)


async def require_own(gateway: Gateway, caller: Caller, decision_id: str) -> DecisionRow:
    """The row of the caller's own request. Raises NotFound, Unavailable, TooManyRequests."""
    async with searching(gateway, caller):
        row = await find_row(gateway.runtime.settings, decision_id, visible_to(caller))
    if row is None:
        raise unknown(decision_id)
    return row


@contextlib.asynccontextmanager
async def searching(gateway: Gateway, caller: Caller) -> AsyncIterator[None]:
    searches = _searches.setdefault(gateway, Searches())
    async with searches.place(caller.name), redis_answers():
        try:
            yield
        except ConfigError as error:
            raise Unavailable(f"Redis does not answer: {error}", retry_after_s=1) from error


def visible_to(caller: Caller) -> Callable[[DecisionRow], bool]:
    if "admin" in caller.permissions:
        return lambda row: True
    return lambda row: (row.k, row.tn) == (caller.name, caller.tenant)


def check_id(decision_id: str) -> None:
    """Raises BadRequest."""
    if not ID.fullmatch(decision_id):
        raise BadRequest("a decision id is 22 hex digits, as the header x-router-decision-id says it", param="id")


def unknown(decision_id: str) -> NotFound:
    return NotFound(
        f"no decision '{decision_id}' is kept here: it may be of another API key, older than what Redis keeps "
        "(evidence.decisions_days), or not written yet"
    )
