"""What a route's policy or gate raised: in the log with its traceback, at most once a minute.

A fault of one kind of request would else write its traceback for each of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from math import inf

log = logging.getLogger("distill_router.policy")

EVERY_S = 60.0
POLICY_ERROR = "policy_error"  # the guard, and the reason of what the teacher answers because of it


class Complaints:
    """Of one route in one process. `now_s`: a clock that never goes back."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._told_s = -inf
        self._kept_back = 0

    def tell(self, route: str) -> None:
        """Log the exception that is being handled, or count it for the next line."""
        now_s = self._now_s()
        if now_s - self._told_s < EVERY_S:
            self._kept_back += 1
            return
        log.exception(
            "route %s: the policy failed and the teacher answers; %d more failures since the last such line",
            route,
            self._kept_back,
        )
        self._told_s, self._kept_back = now_s, 0
