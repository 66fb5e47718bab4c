"""The Redis that a test may stop, and one of its own for what gateways share."""

from __future__ import annotations

from tests.router.evidence.conftest import redis_process
from tests.router.keys.conftest import ledger_url

__all__ = ["ledger_url", "redis_process"]
