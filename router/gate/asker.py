"""Calls that a gate makes beside the student's: whole answers, in time.

They run beside the student's call and beside each other. Whoever waits for one ends it by being cancelled.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from router.arm import ArmCall, open_arm
from router.auth import Caller
from router.errors import RouterError, TooManyRequests
from router.ledger.bill import Bill, Origin
from router.ledger.purse import Purse
from router.request import ClientRequest, Endpoint, parse_fields
from router.upstream.model import Attempts, Leash, ModelClient
from router.upstream.transport import TransportError

PLACE_EVERY_S = 0.1


class Unanswered(Exception):
    """The call brought no answer; the text says why."""


class Asker:
    """One request's. `origin`: what they are charged as; `background`: no client waits for them."""

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
        bill, leash = Bill(), Leash(background=self._background)
        try:
            async with asyncio.timeout(timeout_s):
                call = await self._open(request, model, bill, leash)
            call.settle(self._origin)
            call.close()
        except TimeoutError:
            raise Unanswered(f"model '{model.name}' did not answer within {timeout_s:g} s") from None
        except (RouterError, TransportError) as error:
            raise Unanswered(str(error)) from None
        finally:
            self._pay(bill)
        if not call.succeeded:
            raise Unanswered(f"model '{model.name}' answered with status {call.reply.status}")
        return call

    async def _open(self, request: ClientRequest, model: ModelClient, bill: Bill, leash: Leash) -> ArmCall:
        """In the background a model that is busy is asked again a little later: clients come first."""
        while True:
            try:
                return await open_arm(request, model, bill, self._headers, leash, Attempts(), self._purse)
            except TooManyRequests:
                if not self._background:
                    raise
                await asyncio.sleep(PLACE_EVERY_S)

    def _pay(self, bill: Bill) -> None:
        """Tries that failed, and calls that were given up, are the gate's too."""
        for charge in bill.charges:
            charge.origin = self._origin
        self._bill.charges += bill.charges
