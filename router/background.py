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
    leash = Leash(background=True)
    async with asyncio.timeout(timeout_s) as limit:
        while True:
            pause_s = PLACE_EVERY_S
            try:
                call = await open_arm(
                    request, model, bill, headers, leash, Attempts(), purse, scored=scored, entropies=scored
                )
                call.settle(origin)
                call.close()
                if call.reply.status != OVERLOADED:
                    return call
                bill.charges.remove(call.charge)
                pause_s = OVERLOADED_S
            except TooManyRequests:
                pass
            if asyncio.get_running_loop().time() + pause_s >= (limit.when() or 0.0):
                raise Starved(f"model '{model.name}' had no place for background calls")
            await asyncio.sleep(pause_s)
