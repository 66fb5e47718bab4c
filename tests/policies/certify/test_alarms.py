from __future__ import annotations

import numpy as np
import pytest

from policies.certify.alarms import LossAlarm, ShiftAlarm
from tests.policies.certify.traffic import Requests, counts, requests


def watched(alarm: ShiftAlarm, of: Requests) -> str | None:
    told = counts(of, np.zeros(len(of.scores), dtype=bool))
    return alarm.count(np.asarray(told.scores, float), np.asarray(told.novelties, float))


def test_like_traffic_rings_no_shift_alarm() -> None:
    rng, alarm = np.random.default_rng(1), ShiftAlarm()
    assert not any(watched(alarm, requests(rng, size=50)) for _ in range(2_000))


@pytest.mark.parametrize("moved", ["scores", "novelties"])
def test_moved_traffic_rings_the_shift_alarm_within_500_requests(moved: str) -> None:
    rng, alarm = np.random.default_rng(2), ShiftAlarm()
    for _ in range(40):
        watched(alarm, requests(rng, size=50))
    why = None
    for _ in range(10):
        of = requests(rng, size=50, novelty=(5.0, 2.0) if moved == "novelties" else (2.0, 5.0))
        if moved == "scores":
            of = Requests(of.scores / 2, of.novelties, of.losses)
        why = why or watched(alarm, of)
    assert why is not None
    assert moved in why


def test_a_burst_of_a_few_requests_is_no_shift() -> None:
    rng, alarm = np.random.default_rng(3), ShiftAlarm()
    for _ in range(40):
        watched(alarm, requests(rng, size=50))
    assert watched(alarm, requests(rng, size=40, novelty=(50.0, 1.0))) is None


def rings_after(harm: float, audits: int, seed: int) -> int | None:
    rng, alarm = np.random.default_rng(seed), LossAlarm()
    expected = 0.3 * rng.random(audits)
    losses = (rng.random(audits) < harm * expected).astype(float)
    for at in range(audits):
        if alarm.audited(losses[at : at + 1], expected[at : at + 1]):
            return at
    return None


def test_losses_as_expected_ring_seldom() -> None:
    assert sum(rings_after(1.0, 2_000, seed) is not None for seed in range(10)) <= 2


def test_doubled_losses_ring_within_some_hundred_audits() -> None:
    delays = [rings_after(2.0, 2_000, seed) for seed in range(10)]
    assert None not in delays
    assert np.median([delay for delay in delays if delay is not None]) < 400


def test_fewer_losses_never_ring() -> None:
    assert all(rings_after(0.3, 2_000, seed) is None for seed in range(10))
