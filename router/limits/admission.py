"""A request that the rate limits let in: what it was estimated to take, and what it took in the end."""

from __future__ import annotations

from collections.abc import Sequence

from router.exchange import Trace
from router.limits.bucket import UNITS, Bucket

BYTES_PER_TOKEN = 3


class Admission:
    """`settle` it once, when the request ends, whatever the way out. `estimate`: tokens."""

    __slots__ = ("_estimate", "_of_tokens")

    def __init__(self, of_tokens: list[Bucket], estimate: int) -> None:
        self._of_tokens = of_tokens
        self._estimate = estimate

    def settle(self, tokens: int) -> None:
        """`tokens`: what it really took."""
        for bucket in self._of_tokens:
            bucket.settle((self._estimate - tokens) * UNITS)


def take(buckets: Sequence[Bucket], estimate: int, now: float) -> Admission:
    """One request and `estimate` tokens."""
    of_tokens = []
    for bucket in buckets:
        if bucket.limit.kind == "requests":
            bucket.take(UNITS, now)
        else:
            bucket.take(estimate * UNITS, now)
            bucket.open += 1
            of_tokens.append(bucket)
    return Admission(of_tokens, estimate)


def prompt_tokens(prompt_bytes: int) -> int:
    """An estimate before the call."""
    return -(-prompt_bytes // BYTES_PER_TOKEN)


def answer_tokens(trace: Trace) -> int:
    """Prompt and answer of the call that the client got, or of the last one where it got none.

    What the gateway asked for on its own account (an escalated student, a failed try, an audit) is not the client's.
    """
    charges = trace.bill.charges
    if not charges:
        return 0
    usage = (trace.served.charge if trace.served else charges[-1]).usage
    return usage.input_tokens + usage.output_tokens
