"""How far an archive is behind, where Redis does not say it itself."""

from __future__ import annotations

import pytest

from router.evidence.upkeep import estimated_lag

STREAM = {
    "length": 100,
    "first-entry": (b"1000-0", {}),
    "last-entry": (b"2000-0", {}),
    "last-generated-id": b"2000-0",
}


@pytest.mark.parametrize(
    "read, lag",
    [(b"0-0", 100), (b"999-9", 100), (b"1000-0", 100), (b"1500-3", 50), (b"1999-9", 1), (b"2000-0", 0)],
)
def test_entries_are_taken_to_come_evenly(read: bytes, lag: int) -> None:
    assert estimated_lag(STREAM, {"last-delivered-id": read}) == lag


def test_what_was_trimmed_is_behind_nobody() -> None:
    empty = STREAM | {"length": 0, "first-entry": None, "last-entry": None}
    assert estimated_lag(empty, {"last-delivered-id": b"5-0"}) == 0


def test_entries_of_one_millisecond_are_told_apart_only_as_some() -> None:
    burst = STREAM | {"first-entry": (b"2000-0", {}), "last-entry": (b"2000-99", {}), "last-generated-id": b"2000-99"}
    assert estimated_lag(burst, {"last-delivered-id": b"2000-50"}) == 1
