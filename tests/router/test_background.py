"""Calls that no client waits for: a model that had no place for one is not to blame."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from router import background
from router.background import Starved, ask_in_background
from router.errors import TooManyRequests


async def no_place(*args: Any, **kwargs: Any) -> None:
    """Every place is taken, and the loop is busy with something else until long after the time is over."""
    asyncio.get_running_loop().call_soon(time.sleep, 0.1)
    raise TooManyRequests("full")


async def test_a_busy_loop_is_no_failure_of_the_model_that_had_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "open_arm", no_place)
    monkeypatch.setattr(background, "PLACE_EVERY_S", 0.01)
    unused: Any = None
    model: Any = SimpleNamespace(name="student")
    with pytest.raises(Starved, match="model 'student' had no place"):
        await ask_in_background(unused, model, unused, b"", unused, "shadow", 0.05)
