"""The names of the ledger's Redis keys. One hash tag keeps them on one shard, so that a script may touch them all."""

from __future__ import annotations

import json

PREFIX = "distill-router:{ledger}:"

ALIVE = PREFIX + "alive:"  # + worker: exists as long as the worker speaks
SEQUENCE = PREFIX + "sequence:"  # + worker: number of its last talk
RUN = PREFIX + "run"  # hash: the server's run id, and until when leases are declared (Redis time, ms)
API_KEYS = PREFIX + "keys"  # hash: SHA-256 of an API key -> its JSON record
API_KEYS_VERSION = PREFIX + "keys-version"  # counts changes of API_KEYS
HOUR_S = 3600
TEACHER_ONLY = "teacher_only"  # stands where an origin does, for the estimate of the teacher alone


def window_key(budget: str, window: str, timezone: str, member: str, start: int) -> str:
    """Hash of one window of a budget: worker -> `ceiling spent reserved` (nano-USD).

    The field `` is what workers that have ended left, `WORKER~` what calls of a living one may have cost that nobody
    saw the end of: the ceiling less what was spent is presumed spent.
    """
    return f"{PREFIX}window:{json.dumps([budget, window, timezone, member])}:{start}"


def hour_key(start: int) -> str:
    """Hash of one hour's sums (Unix time of its start): field `hour_field(…)`, nano-USD."""
    return f"{PREFIX}hour:{start}"


def hour_field(worker: str, route: str, tenant: str, key: str, model: str, origin: str) -> str:
    """`WORKER|["route","tenant","key","model","origin"]`; no worker: sums of workers that have ended."""
    return f"{worker}|{json.dumps([route, tenant, key, model, origin], separators=(',', ':'))}"
