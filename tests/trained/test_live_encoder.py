"""A decision waits for its vector as long as it may, and is made without it then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from policies.bounds import Floats
from policies.query import Vector
from router.trained import live_encoder
from router.trained.encoders import EncodingFailed
from router.trained.live_encoder import LiveEncoder
from tests.support.gateway import eventually
from tests.support.keys import comes_to


class Encoder:
    """Answers once it may; `fails`: it does not."""

    name = "test"
    dimension = 2

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.running = 0
        self.fails = False

    def encode(self, texts: Sequence[str]) -> Floats:
        self.running += 1
        assert self.may_answer.wait(30)
        self.running -= 1
        if self.fails:
            raise EncodingFailed("out of order")
        return np.array([[len(text), 1.0] for text in texts])


class Live:
    def __init__(self, timeout_s: float) -> None:
        self.encoder = Encoder()
        self.live = LiveEncoder(self.encoder, timeout_s)


@pytest.fixture
def patient() -> Iterator[Live]:
    live = Live(timeout_s=30)
    yield live
    live.encoder.may_answer.set()
    live.live.close()


@pytest.fixture
def hasty() -> Iterator[Live]:
    live = Live(timeout_s=0.02)
    yield live
    live.encoder.may_answer.set()
    live.live.close()


async def test_a_vector_that_comes_is_taken(patient: Live) -> None:
    assert await patient.live.vector("four") == Vector("test", (4.0, 1.0))


async def test_a_late_one_is_not_waited_for(hasty: Live, caplog: pytest.LogCaptureFixture) -> None:
    hasty.encoder.may_answer.clear()
    assert [await hasty.live.vector("a") for _ in range(2)] == [None, None]
    assert len(caplog.messages) == 1 and "no vector within 0.02 s" in caplog.text


async def test_a_failure_is_told_once_until_a_vector_comes_again(
    patient: Live, caplog: pytest.LogCaptureFixture
) -> None:
    for fails in (True, True, False, True):
        patient.encoder.fails = fails
        assert (await patient.live.vector("a") is None) is fails
    assert len(caplog.messages) == 2 and "out of order" in caplog.text


async def test_more_than_there_are_places_for_do_not_wait_at_all(
    patient: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_encoder, "AT_ONCE", 2)
    patient.encoder.may_answer.clear()
    waiting = [asyncio.create_task(patient.live.vector("a")) for _ in range(2)]
    await eventually(lambda: patient.encoder.running == 2)
    assert await patient.live.vector("a") is None
    patient.encoder.may_answer.set()
    assert all(vector is not None for vector in await asyncio.gather(*waiting))
    assert await patient.live.vector("a") is not None


async def test_a_decision_that_is_given_up_frees_its_place_when_the_call_ends(
    patient: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_encoder, "AT_ONCE", 1)
    patient.encoder.may_answer.clear()
    given_up = asyncio.create_task(patient.live.vector("a"))
    await eventually(lambda: patient.encoder.running == 1)
    given_up.cancel()
    assert await asyncio.gather(given_up, return_exceptions=True)
    assert await patient.live.vector("a") is None
    patient.encoder.may_answer.set()
    await comes_to(lambda: answered(patient), True)


async def answered(live: Live) -> bool:
    return await live.live.vector("a") is not None
