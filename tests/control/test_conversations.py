"""The table of conversations that the workers of a host share."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.control.conversations import FILE, Conversations, Remembered
from router.gateway import Gateway
from router.record.metrics import Metrics
from router.settings import parse
from tests.support.gateway import running_gateway, two_models

NOW = 1_700_000_000.0


def test_a_conversation_is_remembered_with_its_model_and_tokens() -> None:
    table = Conversations()
    table.keep("auto", b"hello", "teacher", 1_200, NOW)
    assert table.recall("auto", b"hello", NOW + 10, ttl_s=300) == Remembered("teacher", 1_200)
    assert table.recall("auto", b"hello you", NOW + 10, ttl_s=300) is None
    assert table.recall("other", b"hello", NOW + 10, ttl_s=300) is None


def test_the_last_answer_counts() -> None:
    table = Conversations()
    table.keep("auto", b"hello", "teacher", 1_200, NOW)
    table.keep("auto", b"hello", "student", 1_500, NOW + 1)
    assert table.recall("auto", b"hello", NOW + 2, ttl_s=300) == Remembered("student", 1_500)


def test_a_cache_that_has_expired_is_forgotten() -> None:
    table = Conversations()
    table.keep("auto", b"hello", "teacher", 1_200, NOW)
    assert table.recall("auto", b"hello", NOW + 299, ttl_s=300)
    assert table.recall("auto", b"hello", NOW + 301, ttl_s=300) is None


def test_workers_of_a_host_share_what_they_know(tmp_path: Path) -> None:
    one, other = Conversations(tmp_path), Conversations(tmp_path)
    one.keep("auto", b"hello", "teacher", 7, NOW)
    assert other.recall("auto", b"hello", NOW, ttl_s=300) == Remembered("teacher", 7)
    late = Conversations(tmp_path)
    assert late.recall("auto", b"hello", NOW, ttl_s=300) == Remembered("teacher", 7)
    for table in (one, other, late):
        table.close()


def test_a_full_place_forgets_whom_nobody_heard_of_for_longest() -> None:
    table = Conversations(slots=4)  # one place
    for number in range(4):
        table.keep("auto", b"%d" % number, "student", number, NOW + number)
    table.keep("auto", b"0", "student", 0, NOW + 10)
    table.keep("auto", b"new", "teacher", 9, NOW + 11)
    known = [table.recall("auto", name, NOW + 11, ttl_s=300) is not None for name in (b"0", b"1", b"2", b"3", b"new")]
    assert known == [True, False, True, True, True]


def test_the_table_does_not_grow(tmp_path: Path) -> None:
    table = Conversations(tmp_path, slots=64)
    size = (tmp_path / FILE).stat().st_size
    for number in range(1_000):
        table.keep("auto", b"%d" % number, "student", number, NOW)
    assert (tmp_path / FILE).stat().st_size == size < 2_000
    table.close()


def test_the_disk_has_room_for_all_of_the_table_or_says_so_at_once(tmp_path: Path) -> None:
    """A page that finds no room when it is written kills the process."""
    table = Conversations(tmp_path)
    state = (tmp_path / FILE).stat()
    assert state.st_blocks * 512 >= state.st_size
    table.close()


def test_tokens_without_end_are_counted_as_many() -> None:
    table = Conversations()
    table.keep("auto", b"hello", "teacher", 10**12, NOW)
    known = table.recall("auto", b"hello", NOW, ttl_s=300)
    assert known and known.arm == "teacher" and known.tokens == 2**31 - 1


@given(st.binary(max_size=80), st.integers(0, 79), st.integers(0, 2**32))
def test_a_slot_that_was_torn_reads_as_unknown_or_as_it_was(torn: bytes, at: int, seed: int) -> None:
    """Bytes of other writes in the middle of a place never make up a conversation."""
    table = Conversations(slots=4)
    written = {}
    for number in range(4):
        name = b"%d" % number
        table.keep("auto", name, "teacher", number + 100, NOW)
        written[name] = Remembered("teacher", number + 100)
    piece = torn[: 80 - at]
    table._table[at : at + len(piece)] = piece
    for name, was in written.items():
        assert table.recall("auto", name, NOW, ttl_s=300) in (was, None)
    stranger = random.Random(seed).randbytes(12)
    assert table.recall("auto", stranger, NOW, ttl_s=300) is None


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="conversations"):
        Conversations(tmp_path / "missing")


async def test_a_gateway_whose_folder_has_no_room_remembers_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).mkdir()  # no file can be made there
    config = {"server": {"auth": "none"}, "evidence": {"spool_dir": str(tmp_path / "spool")}}
    models = {"one": {"base_urls": ["http://127.0.0.1:1/v1"], "price": {"input": 1, "output": 1}}}
    settings = parse(json.dumps(config | {"models": models}))
    gateway = Gateway(settings, Metrics(), None, shared_dir=tmp_path)
    assert "remembers the models of its own conversations only" in caplog.text
    await gateway.close()


async def test_a_gateway_that_ends_closes_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Conversations] = []
    monkeypatch.setattr(Conversations, "close", lambda table: closed.append(table))
    async with running_gateway(two_models("http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1")):
        assert not closed
    assert len(closed) == 1
