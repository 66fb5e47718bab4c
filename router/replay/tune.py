"""The operating points of the policy that a route is configured with, on its log, and the ones to propose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from policies.base import PolicyConfig
from policies.replay.compare import Comparison, Known, compare
from policies.replay.frontier import (
    SHARES,
    Choosable,
    certified_share,
    certified_threshold,
    thresholds,
)
from policies.replay.log import Logged, Outcome
from policies.replay.support import NoSupport
from router.replay.candidate import Decided
from router.replay.replay import Prepared

LEVELS = (0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Operating:
    """`point`: the number walked, `policy`: the block with it. `max_loss`: what it was certified for, None without."""

    point: float
    policy: dict[str, Any]
    figures: Comparison
    max_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """`frontier`: by rising student share. `certified`: one for each level for which there is one."""

    frontier: list[Operating]
    certified: list[Operating]
    uncertified: list[float]


def require_points(config: PolicyConfig) -> None:
    """Raises NoSupport for a kind of policy that has no number to walk."""
    if config.point is None:
        raise NoSupport(f"a policy of kind '{config.kind}' has no operating points; cascade, difficulty and split have")


def tune(prepared: Prepared, config: PolicyConfig, max_losses: Sequence[float], delta: float) -> Tuned:
    """Walk the points. Raises NoSupport where the policy has none, or scored nothing."""
    require_points(config)
    walk = _Walk(prepared, config, delta)
    certified = [(level, walk.certified(level)) for level in max_losses]
    return Tuned(
        frontier=[walk.operating(point) for point in walk.points()],
        certified=[walk.operating(point, level) for level, point in certified if point is not None],
        uncertified=[level for level, point in certified if point is None],
    )


class _Walk:
    def __init__(self, prepared: Prepared, config: PolicyConfig, delta: float) -> None:
        self._prepared = prepared
        self._config = config
        self._delta = delta
        self._splits = config.kind == "split"
        both = zip(prepared.requests, prepared.decided, strict=True)
        self._choosable = [_choosable(request, each, self._splits) for request, each in both]
        if all(each.score is None for each in self._choosable):
            raise NoSupport("the policy gave no request a score, so that no threshold would change anything")

    def points(self) -> list[float]:
        if self._splits:
            return list(SHARES)
        return thresholds(self._prepared.requests, self._choosable)

    def certified(self, max_loss: float) -> float | None:
        find = certified_share if self._splits else certified_threshold
        return find(self._prepared.requests, self._choosable, max_loss, self._delta)

    def operating(self, point: float, max_loss: float | None = None) -> Operating:
        prepared = self._prepared
        known = Known(logged=prepared.known.logged)
        outcomes = list(self._outcomes(point))
        found = compare(prepared.requests, prepared.logged, outcomes, self._delta, prepared.population, known)
        assert self._config.point is not None, "required at the start"
        block = self._config.model_dump(mode="json", exclude_unset=True) | {self._config.point: point}
        return Operating(point, block, found.best, max_loss)

    def _outcomes(self, point: float) -> Iterator[Outcome]:
        for each in self._choosable:
            yield each.split(point) if self._splits else each.at(point)


def _choosable(request: Logged, decided: Decided, splits: bool) -> Choosable:
    """A split draws for every request that fits the student; what does not fit is the teacher's by its guard."""
    if splits:
        return Choosable(None if decided.guarded else 0.0, request.routed(0.0), request.routed(1.0))
    if decided.score is None:
        return Choosable(None, decided.outcome, decided.outcome)
    teacher = request.escalated(decided.wasted_usd) if decided.gated else request.routed(1.0)
    return Choosable(decided.score, request.routed(0.0), teacher)
