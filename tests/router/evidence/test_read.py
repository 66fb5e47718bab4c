"""Evidence is read from Redis and from the spool, each record once, and the records survive the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ConfigError
from router.evidence.batches import Record
from router.evidence.erasure import Subject, bury
from router.evidence.read import PAGE, Evidence, Reach
from router.evidence.records import LabelRecord, PairRecord, split_of
from router.evidence.scripts import marker_key
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, LABELS, shard_key
from router.record.row import decode_row, encode_row
from router.settings import Settings, parse
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import two_models
from tests.support.pairs import pair, row, spool_pairs, spool_records


def settings_for(folder: Path, redis: RedisProcess | None = None, shards: int = 1) -> Settings:
    top: dict[str, Any] = {"redis": redis.url} if redis else {}
    config = two_models("http://t/v1", "http://s/v1", evidence={"spool_dir": str(folder), "shards": shards}, **top)
    return parse(yaml.safe_dump(config), {})


def test_without_redis_the_spool_is_read(tmp_path: Path) -> None:
    spool_pairs(tmp_path, [pair(1), pair(2, harm=True)], [row(1), row(2)])
    evidence = Evidence(settings_for(tmp_path))
    assert [record.id for record in evidence.pairs()] == [pair(2).id, pair(1).id]
    assert [record.id for record in evidence.pairs(agreements=False)] == [pair(2).id]
    assert list(evidence.rows()) == [row(1), row(2)]
    assert evidence.latest(DISAGREEMENTS, 5)[1] == [pair(2, harm=True).model_dump_json().encode()]
    with pytest.raises(ConfigError, match="needs Redis"):
        evidence.after(DISAGREEMENTS, ("0",))


def test_redis_and_the_spool_are_read_together_and_nothing_twice(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    for number in range(PAGE + 3):
        redis_process.call("XADD", shard_key(0, DECISIONS), "*", "r", encode_row(row(number)))
    redis_process.call("XADD", shard_key(0, DISAGREEMENTS), "*", "r", pair(1, harm=True).model_dump_json())
    spool_pairs(tmp_path, [pair(1, harm=True), pair(2)], [row(PAGE + 2), row(PAGE + 3)])
    evidence = Evidence(settings_for(tmp_path, redis_process))
    assert [r.id for r in evidence.rows()] == [row(number).id for number in range(PAGE + 4)]
    assert [record.id for record in evidence.pairs()] == [pair(1).id, pair(2).id]


def test_what_another_version_wrote_is_skipped(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    for data in ("{}", "no json", pair(1).model_dump_json().replace('"schema_version":2', '"schema_version":99')):
        redis_process.call("XADD", shard_key(0, AGREEMENTS), "*", "r", data)
        redis_process.call("XADD", shard_key(0, DECISIONS), "*", "r", data)
    evidence = Evidence(settings_for(tmp_path, redis_process))
    assert not list(evidence.pairs())
    assert not list(evidence.rows())


def test_following_misses_nothing_between_the_latest_and_the_next(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    evidence = Evidence(settings_for(tmp_path, redis_process))
    last, shown = evidence.latest(DISAGREEMENTS, 10)
    assert (last, shown) == (("0",), [])
    for number in range(12):
        redis_process.call("XADD", shard_key(0, DISAGREEMENTS), "*", "r", str(number))
    last, shown = evidence.latest(DISAGREEMENTS, 10)
    assert shown == [b"%d" % number for number in range(2, 12)]
    redis_process.call("XADD", shard_key(0, DISAGREEMENTS), "*", "r", "12")
    last, fresh = evidence.after(DISAGREEMENTS, last)
    assert fresh == [b"12"]
    assert evidence.after(DISAGREEMENTS, last) == (last, [])


def test_shards_are_read_as_one_stream_by_time(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    evidence = Evidence(settings_for(tmp_path, redis_process, shards=3))
    for number in range(30):
        key = shard_key(number * number % 3, DECISIONS)
        redis_process.call("XADD", key, f"{1000 + number}-1", "r", encode_row(row(number)))
    assert list(evidence.rows()) == [row(number) for number in range(30)]
    assert evidence.reach() == Reach(1.0, trimmed=False)
    redis_process.call("XTRIM", shard_key(1, DECISIONS), "MAXLEN", 5)
    last, shown = evidence.latest(DECISIONS, 4)
    assert [decode_row(data) for data in shown] == [row(number) for number in range(26, 30)]
    for number in range(30, 36):
        redis_process.call("XADD", shard_key(number % 3, DECISIONS), f"{1000 + number}-1", "r", encode_row(row(number)))
    last, fresh = evidence.after(DECISIONS, last)
    assert [decode_row(data) for data in fresh] == [row(number) for number in range(30, 36)]
    assert evidence.after(DECISIONS, last) == (last, [])


def test_rows_reach_back_to_where_all_shards_do(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start("--maxmemory", "100mb")  # with Redis before 7 any stream may have been trimmed then
    evidence = Evidence(settings_for(tmp_path, redis_process, shards=2))
    assert evidence.reach() == Reach(None, trimmed=False)
    for shard in range(2):
        for number in range(3):
            redis_process.call("XADD", shard_key(shard, DECISIONS), f"{1000 * (1 + shard) + number}-1", "r", "x")
        redis_process.call("XTRIM", shard_key(shard, DECISIONS), "MAXLEN", 1)
    assert evidence.reach() == Reach(2.002, trimmed=True)


def test_what_redis_has_is_not_read_from_the_spool_again(redis_process: RedisProcess, tmp_path: Path) -> None:
    """The log keeps a batch for a while after Redis has confirmed it."""
    redis_process.start()
    spool_pairs(tmp_path, [pair(n, harm=True) for n in range(250)])
    evidence = Evidence(settings_for(tmp_path, redis_process))
    assert len(evidence.latest(DISAGREEMENTS, 300)[1]) == 250
    (counts,) = tmp_path.glob("*.counts")
    redis_process.call("SET", marker_key(0, counts.stem), 2)  # of three batches
    assert len(evidence.latest(DISAGREEMENTS, 300)[1]) == 50
    assert [record.id for record in evidence.pairs()] == [pair(n).id for n in range(200, 250)]


def test_labels_come_back_in_order(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    said = [LabelRecord(id=f"{n}", time=float(n), label="teacher_wrong", by="ann") for n in range(3)]
    for label in said[:2]:
        redis_process.call("XADD", shard_key(0, LABELS), "*", "r", label.model_dump_json())
    redis_process.call("XADD", shard_key(0, LABELS), "*", "r", "{}")
    spool_records(tmp_path, [Record(LABELS, said[2].id, said[2].model_dump_json().encode())])
    assert list(Evidence(settings_for(tmp_path, redis_process)).labels()) == said


def test_redis_that_is_away_is_a_message(redis_process: RedisProcess, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="redis: no answer"):
        list(Evidence(settings_for(tmp_path, redis_process)).rows())


@given(st.integers(0, 2**40), st.booleans(), st.none() | st.floats(-20, 0), st.text())
def test_a_pair_comes_back_as_it_was(number: int, harm: bool, score: float | None, said: str) -> None:
    record = pair(number, harm=harm, score=score).model_copy(update={"request": {"messages": said}})
    data = record.model_dump_json()
    assert "\n" not in data
    assert PairRecord.model_validate_json(data) == record


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20))
def test_a_conversation_keeps_its_split(conversations: list[bytes]) -> None:
    assert [split_of(c) for c in conversations] == [split_of(bytes(c)) for c in conversations]


def test_splits_have_their_shares() -> None:
    drawn = [split_of(b"conversation %d" % number) for number in range(4000)]
    assert 0.77 < drawn.count("train") / 4000 < 0.83
    assert 0.08 < drawn.count("val") / 4000 < 0.12


def test_what_the_erased_said_before_is_left_out(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    gone, kept = (pair(number, harm=True).model_copy(update={"users": ["ann"]}) for number in (1, 9))
    for record in (gone, kept):
        redis_process.call("XADD", shard_key(0, DISAGREEMENTS), "*", "r", record.model_dump_json())
    spool_pairs(tmp_path, [pair(2, harm=True).model_copy(update={"users": ["ann"]}), pair(3, harm=True)])
    settings = settings_for(tmp_path, redis_process)
    bury(settings, Subject("user", "ann"), pair(5).time)
    evidence = Evidence(settings)
    assert {record.id for record in evidence.pairs()} == {pair(3).id, kept.id}
    assert len(evidence.latest(DISAGREEMENTS, 10)[1]) == 2
    assert evidence.after(DISAGREEMENTS, ("0",))[1] == [kept.model_dump_json().encode()]
