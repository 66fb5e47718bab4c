"""Which requests are compared, and with which probability each of them was: everything an estimate divides by.

Two draws. Before the request is answered: the uniform audit (as often as configured, and as the floor wants), and
openings that were not seen before (novelty). After it: escalations, whose two answers are there already, and answers
that a cascade accepted without being sure. The probability of being in the sample for any reason is
1 - (1 - audit)(1 - targeted), and is known before the draw.

When the places for audits fill up, fewer are drawn: first the targeted ones, then the uniform ones. The draws use the
lowered probability, so that what is shed is not lost to the estimate.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable
from zlib import crc32

from router.evidence.records import Sample
from router.exchange import Trace
from router.prompt import PROMPT_FIELD
from router.runtime import RouteRuntime

NO_STORE = b"x-router-no-store"
NO = frozenset({b"", b"0", b"false", b"no"})
PAUSE_S = 10.0  # after a budget did not pay for an audit
OPENING_BYTES = 256
NEW_TIMES = 3  # an opening is new for so many requests
KNOWN_OPENINGS = 10_000


class Sampler:
    """One per process. `load(route)`: the share of the places for audits that are taken, from 0 to 1."""

    def __init__(self, load: Callable[[RouteRuntime], float]) -> None:
        self._load = load
        self._paused: dict[str, float] = {}
        self._openings: OrderedDict[int, int] = OrderedDict()

    def before(self, trace: Trace) -> None:
        """Draw for a request that is about to be answered; forced and no-store requests stay out."""
        wish = trace.request.raw_header(NO_STORE)
        trace.no_store = not trace.request.caller.records or (wish is not None and wish.lower() not in NO)
        route = trace.route
        if route is None:
            return
        trace.excluded = _excluded(trace)
        if trace.excluded is not None:
            return
        config = route.config.audit
        rate = config.rate if route.config.mode == "observe" else max(config.rate, route.live.audit_rate)
        if not rate:
            return
        trace.audit_probability = rate * self.keep(route)
        trace.probability = trace.audit_probability
        if random.random() < trace.audit_probability:
            trace.sample = "audit"
        if config.targeted.novelty and self._is_new(trace):
            self._target(trace, route, "novelty", config.targeted.novelty)

    def after(self, trace: Trace) -> None:
        """Draw for a request that has been answered."""
        route = trace.route
        if route is None or trace.excluded is not None or trace.outcome != "ok":
            return
        targeted = route.config.audit.targeted
        by = trace.reason.partition(":")[0]
        if by == "escalated" and trace.escalated is not None and trace.escalated.whole:
            self._target(trace, route, "escalation", targeted.escalations)
        elif by == "cascade" and targeted.low_confidence and _is_unsure(trace, route, targeted.margin):
            self._target(trace, route, "confidence", targeted.low_confidence)

    def keep(self, route: RouteRuntime) -> float:
        """The share of the uniform audits that there is room for: all below half of the places, none without one."""
        if self._is_paused(route):
            return 0.0
        load = self._load(route)
        return 1.0 if load < 0.5 else max(0.0, 1 - load)

    def pause(self, route: RouteRuntime) -> None:
        """The budget for audits is spent: draw nothing for a while, then try again."""
        self._paused[route.name] = time.monotonic() + PAUSE_S

    def _is_paused(self, route: RouteRuntime) -> bool:
        return bool(self._paused) and self._paused.get(route.name, 0.0) > time.monotonic()

    def _target(self, trace: Trace, route: RouteRuntime, sample: Sample, share: float) -> None:
        """Draw once more, unless places are scarce."""
        if not share or self._is_paused(route) or self._load(route) >= 0.5:
            return
        trace.probability = 1 - (1 - trace.probability) * (1 - share)
        if trace.sample is None and random.random() < share:
            trace.sample = sample

    def _is_new(self, trace: Trace) -> bool:
        """Whether the tools and the beginning of the prompt were hardly seen by this worker so far."""
        fields = trace.request.fields
        prompt = bytes(fields[PROMPT_FIELD[trace.request.endpoint]])[:OPENING_BYTES]
        opening = crc32(prompt, crc32(bytes(fields.get("tools", b""))))
        seen = self._openings.pop(opening, 0)
        self._openings[opening] = seen + 1
        if len(self._openings) > KNOWN_OPENINGS:
            self._openings.popitem(last=False)
        return seen < NEW_TIMES


def _excluded(trace: Trace) -> str | None:
    """Why a request counts for no figure."""
    if trace.target.forced:
        return "forced"
    return "no_store" if trace.no_store else None


def _is_unsure(trace: Trace, route: RouteRuntime, margin: float) -> bool:
    """Whether the gate had asked the teacher, had it found the answer so much likelier to be wrong."""
    gate = trace.decision.gate if trace.decision else None
    if gate is None or trace.p_wrong is None:
        return False
    cost_usd = route.live.teacher_cost_usd(trace.request)
    return gate.choose(min(1.0, trace.p_wrong + margin), route.live, cost_usd).arm == "teacher"
