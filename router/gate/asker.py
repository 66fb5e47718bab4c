"""Calls that a gate makes beside the student's: whole answers, in time.

They run beside the student's call and beside each other. Whoever waits for one ends it by being cancelled.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from router.arm import ArmCall, open_arm
from router.auth import Caller
from router.background import Starved, ask_in_background
from router.errors import RouterError
from router.ledger.bill import Bill, Origin
from router.ledger.purse import Purse
from router.request import ClientRequest, Endpoint, parse_fields
from router.upstream.model import Attempts, Leash, ModelClient
from router.upstream.transport import TransportError


class Unanswered(Exception):
    """The call brought no answer; the text says why."""


class Asker:
    """One request's. `origin`: what they are charged as; `background`: no client waits for them, so they wait."""

    def __init__(
        self,
        bill: Bill,
        caller: Caller,
        headers: bytes,
        purse: Purse,
        *,
        origin: Origin = "gate",
        background: bool = False,
    ) -> None:
        self._bill = bill
        self._caller = caller
        self._headers = headers
        self._purse = purse
        self._origin: Origin = origin
        self._background = background

    async def ask(
        self, model: ModelClient, body: dict[str, Any], timeout_s: float, *, endpoint: Endpoint = "chat"
    ) -> ArmCall:
        """The answer to a request with this body. Raises Unanswered."""
        data = msgspec.json.encode(body | {"model": model.name})
        request = ClientRequest(endpoint, data, [], self._caller, parse_fields(data))
        bill = Bill()
        try:
            call = await self._answer(request, model, bill, timeout_s)
        except TimeoutError:
            raise Unanswered(f"model '{model.name}' did not answer within {timeout_s:g} s") from None
        except (RouterError, TransportError, Starved) as error:
            raise Unanswered(str(error)) from None
        finally:
            self._pay(bill)
        if not call.succeeded:
            raise Unanswered(f"model '{model.name}' answered with status {call.reply.status}")
        return call

    async def _answer(self, request: ClientRequest, model: ModelClient, bill: Bill, timeout_s: float) -> ArmCall:
        headers, purse, origin = self._headers, self._purse, self._origin
        if self._background:
            return await ask_in_background(request, model, bill, headers, purse, origin, timeout_s)
        async with asyncio.timeout(timeout_s):
            call = await open_arm(request, model, bill, headers, Leash(), Attempts(), purse)
        call.settle(origin)
        call.close()
        return call

    def _pay(self, bill: Bill) -> None:
        """Tries that failed, and calls that were given up, are the gate's too."""
        for charge in bill.charges:
            charge.origin = self._origin
        self._bill.charges += bill.charges
