"""Gateways that ask for keys and share a Redis of their own for them."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.router.evidence.conftest import redis_process
from tests.support.keys import keyed
from tests.support.scripted import ScriptedUpstream

__all__ = ["redis_process"]


@pytest.fixture
def ledger_url(redis_url: str) -> str:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


@pytest.fixture
def config(teacher: ScriptedUpstream, student: ScriptedUpstream, ledger_url: str) -> dict[str, Any]:
    """Rows go to each gateway's own spool: only what is about keys and money is shared."""
    return keyed(teacher, student, ledger_url)
