"""What workers tell the controllers, as bytes: the tallies of all routes since the last telling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from policies.certify.records import Audited
from router.control.tally import Tally


class RouteCounts(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A `Tally` with its route; histograms as (bin, count), `worth` as (bin, requests, USD)."""

    route: str
    version: str
    requests: int
    scores: list[tuple[int, int]]
    student: list[tuple[int, int]]
    novelties: list[tuple[int, int]]
    audits: list[Audited]
    worth: list[tuple[int, int, float]]
    taken_usd: float
    uncovered: int


class Shipment(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`number` counts the shipments of a worker, so that one that arrives twice is counted once."""

    worker: str
    number: int
    counts: list[RouteCounts]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Shipment).decode


def shipped(worker: str, number: int, counts: Iterable[tuple[str, Tally]]) -> bytes:
    """The shipment of a worker; `counts`: tallies with their routes."""
    return _encode(Shipment(worker, number, [_counts(route, tally) for route, tally in counts]))


def received(data: bytes) -> Shipment:
    """Raises ValueError for what is no shipment of this version."""
    return _decode(data)


def _counts(route: str, tally: Tally) -> RouteCounts:
    return RouteCounts(
        route,
        tally.version,
        tally.requests,
        _sparse(tally.scores),
        _sparse(tally.student),
        _sparse(tally.novelties),
        tally.audits,
        [(at, int(count), cost) for at, (count, cost) in tally.worth.items()],
        tally.taken_usd,
        tally.uncovered,
    )


def _sparse(histogram: Sequence[int]) -> list[tuple[int, int]]:
    return [(at, count) for at, count in enumerate(histogram) if count]
