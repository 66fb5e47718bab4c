"""Calls that no client waits for: clients come first.

They have connections of their own and a share of each model's places, and wait for a place instead of taking one.
"""

from __future__ import annotations

import asyncio

from router.arm import ArmCall, open_arm
from router.errors import TooManyRequests
from router.ledger.bill import Bill, Origin
from router.ledger.purse import Purse
from router.request import ClientRequest
from router.upstream.model import Attempts, Leash, ModelClient

PLACE_EVERY_S = 0.1
OVERLOADED = 429
OVERLOADED_S = 1.0


class Starved(Exception):
    """The model had no place for the call in time, which says nothing about the model."""


async def ask_in_background(
    request: ClientRequest,
    model: ModelClient,
    bill: Bill,
    headers: bytes,
    purse: Purse,
    origin: Origin,
    timeout_s: float,
    *,
    scored: bool = False,
) -> ArmCall:
    """The model's answer, settled as `origin` and closed; while the model is busy it is asked again a little later.

    `scored`: with log-probabilities and what entropies take. Raises Starved, TimeoutError where the model had a place
    but did not answer in time, and what `open_arm` does.
    """
    leash, loop = Leash(background=True), asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while loop.time() < deadline:  # a busy loop may sleep past it, which the model is not to blame for
        try:
            async with asyncio.timeout_at(deadline):
                call = await open_arm(
                    request, model, bill, headers, leash, Attempts(), purse, scored=scored, entropies=scored
                )
        except TooManyRequests:
            await asyncio.sleep(PLACE_EVERY_S)
            continue
        call.settle(origin)
        call.close()
        if call.reply.status != OVERLOADED:
            return call
        bill.charges.remove(call.charge)
        await asyncio.sleep(OVERLOADED_S)
    raise Starved(f"model '{model.name}' had no place for background calls")
