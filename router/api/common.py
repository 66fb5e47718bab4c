"""What the admin API and the evidence API have in common."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import Request

from router.errors import BadRequest, PayloadTooLarge, RouterError, Unavailable
from router.evidence.redis import Unreachable

MAX_BODY_BYTES = 64 * 1024


async def read_body(request: Request, timeout_s: float) -> bytes:
    """Raises PayloadTooLarge, BadRequest."""
    body = b""
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise PayloadTooLarge(f"the request body is larger than the limit of {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise BadRequest(f"the request body did not arrive within {timeout_s:g} s", code="timeout") from None
    return body


@contextlib.asynccontextmanager
async def redis_answers() -> AsyncIterator[None]:
    """Raises Unavailable where Redis does not answer."""
    try:
        yield
    except RouterError:
        raise
    except Unreachable as error:
        raise Unavailable(f"Redis does not answer: {error}", retry_after_s=1) from error
