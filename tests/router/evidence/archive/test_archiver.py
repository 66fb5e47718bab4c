"""Every record reaches the archive exactly once, whatever dies, and whatever it is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import fsspec
import pytest
import redis
from fsspec.implementations.memory import MemoryFileSystem

from router.errors import ConfigError
from router.evidence.archive import archiver as module
from router.evidence.archive.archive import Archive
from router.evidence.archive.archiver import Archiver
from router.evidence.archive.group import DEAD, GROUP, Group
from router.evidence.archive.lock import LockLost, ShardLocks
from router.evidence.archive.store import Store
from router.evidence.erasure import ARCHIVES, Subject, Tombstones, write_tombstones
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, LABELS, STREAMS, shard_key
from router.record.row import DecisionRow, encode_row
from tests.router.evidence.archive.made import DAY_S, NOON, add, archiver, following, label, lines_in, said
from tests.router.evidence.conftest import RedisProcess
from tests.support.pairs import row
from tests.support.router_process import until


@pytest.fixture
def client(redis_process: RedisProcess) -> Iterator[redis.Redis]:
    redis_process.start("--save", "")
    with redis.Redis.from_url(redis_process.url) as client:
        yield client


def some_of_everything() -> list[Any]:
    """On two days."""
    return [
        *(said(number, at=NOON + number * DAY_S / 8) for number in range(8)),
        *(said(number, at=NOON + number, harm=False) for number in range(8, 12)),
        *(row(number) for number in range(20)),
        label(1, "ambiguous"),
        label(1, "ambiguous", at=NOON + 1),
    ]


def counts(url: Path) -> dict[str, Counter[str]]:
    return {stream: lines_in(url, stream) for stream in STREAMS}


def everything_once() -> dict[str, Counter[str]]:
    return {
        DECISIONS: Counter(row(number).id for number in range(20)),
        DISAGREEMENTS: Counter(said(number).id for number in range(8)),
        AGREEMENTS: Counter(said(number).id for number in range(8, 12)),
        LABELS: Counter(f"{said(1).id}:{at!r}:ann" for at in (NOON, NOON + 1)),
    }


def pending(client: redis.Redis, shards: int = 1) -> int:
    """Entries that were delivered and not acknowledged."""
    keys = [shard_key(shard, stream) for shard in range(shards) for stream in STREAMS]
    return sum(group["pending"] for key in keys if client.exists(key) for group in client.xinfo_groups(key))


def dead_letters(client: redis.Redis) -> list[dict[str, Any]]:
    return [json.loads(fields[b"r"]) for _, fields in cast(Any, client.xrange(shard_key(0, DEAD)))]


def test_every_record_of_every_shard_is_archived_and_acknowledged(client: redis.Redis, tmp_path: Path) -> None:
    add(client, some_of_everything(), shards=3)
    summary = archiver(client, tmp_path, shards=3).once()
    assert counts(tmp_path) == everything_once()
    assert summary.written == {DECISIONS: 20, DISAGREEMENTS: 8, AGREEMENTS: 4, LABELS: 2}
    assert pending(client, 3) == 0
    assert sorted({path.parent.name for path in (tmp_path / DISAGREEMENTS).glob("*/*")}) == [
        "day=2023-11-14",
        "day=2023-11-15",
    ]


def test_a_second_run_takes_only_what_is_new(client: redis.Redis, tmp_path: Path) -> None:
    add(client, some_of_everything())
    archiver(client, tmp_path).once()
    add(client, [said(50), row(50)])
    summary = archiver(client, tmp_path).once()
    assert (+summary.written, +summary.known) == ({DECISIONS: 1, DISAGREEMENTS: 1}, {})
    assert len(list(Archive(str(tmp_path)).pairs())) == 13


def test_an_archiver_killed_at_any_step_leaves_each_record_once(
    client: redis.Redis, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """The killed one and the next one together; no file of the killed one is left half done."""
    add(client, some_of_everything())
    client.xadd(shard_key(0, AGREEMENTS), {"r": "no record"})
    done = subprocess.run(
        [sys.executable, "-m", "tests.router.evidence.archive.killed", redis_process.url, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    ends = [line.split() for line in done.stdout.splitlines()]
    assert len(ends) > 30
    assert [int(end) for _, end, _ in ends] == [signal.SIGKILL] * (len(ends) - 1) + [0]
    for _, _, folder in ends:
        assert counts(Path(folder)) == everything_once(), folder
        assert not list((Path(folder) / ".writing").iterdir()), folder
    assert Counter(letter["entry"] for letter in dead_letters(client)).most_common(1)[0][1] == len(ends)


def test_what_a_dead_archiver_was_given_is_taken_over(client: redis.Redis, tmp_path: Path) -> None:
    add(client, some_of_everything())
    dead = Group(client, 0, "dead")
    dead.ensure()
    assert sum(map(len, dead.fresh().values())) == 34
    archiver(client, tmp_path).once()
    assert counts(tmp_path) == everything_once()
    assert pending(client) == 0
    assert [one["name"] for one in client.xinfo_consumers(shard_key(0, LABELS), GROUP)] == [b"test"]


def test_what_was_trimmed_from_redis_meanwhile_is_counted_and_not_asked_for_again(
    client: redis.Redis, tmp_path: Path
) -> None:
    entries = add(client, [said(number) for number in range(5)])
    dead = Group(client, 0, "dead")
    dead.ensure()
    dead.fresh()
    client.xdel(*entries[0])
    client.xdel(*entries[3])
    assert archiver(client, tmp_path).once().gone == {DISAGREEMENTS: 2}
    assert sorted(lines_in(tmp_path, DISAGREEMENTS)) == [said(number).id for number in (1, 2, 4)]
    assert pending(client) == 0


def test_a_record_that_redis_got_twice_is_archived_once(client: redis.Redis, tmp_path: Path) -> None:
    """As when Redis lost its last second, and a producer sends again what is archived already."""
    add(client, [said(1), said(2), said(1), row(1), row(1)])
    summary = archiver(client, tmp_path).once()
    add(client, [said(2), said(3), row(1)])
    again = archiver(client, tmp_path).once()
    assert lines_in(tmp_path, DISAGREEMENTS) == Counter(said(number).id for number in (1, 2, 3))
    assert lines_in(tmp_path, DECISIONS) == Counter([row(1).id])
    assert (+summary.known, +again.known) == ({DISAGREEMENTS: 1, DECISIONS: 1}, {DISAGREEMENTS: 1, DECISIONS: 1})


def test_what_cannot_be_read_becomes_a_dead_letter_and_stops_nothing(client: redis.Redis, tmp_path: Path) -> None:
    good = said(1).model_dump_json()
    bad: list[Any] = [
        "no json",
        good.replace('"schema_version":2', '"schema_version":99'),
        good.replace(f'"time":{said(1).time!r}', '"time":1e300'),
        said(1)
        .model_copy(update={"teacher": said(1).teacher.model_copy(update={"cost_nano_usd": 2**64})})
        .model_dump_json(),
        b"\xff\xfe",
    ]
    for data in (*bad, good):
        client.xadd(shard_key(0, DISAGREEMENTS), {"r": data})
    client.xadd(shard_key(0, DISAGREEMENTS), {"other": "field"})
    client.xadd(shard_key(0, DECISIONS), {"r": encode_row(DecisionRow(9, "x", NOON, "chat"))})
    summary = archiver(client, tmp_path).once()
    assert lines_in(tmp_path, DISAGREEMENTS) == Counter([said(1).id])
    assert (summary.dead[DISAGREEMENTS], summary.dead[DECISIONS]) == (6, 1)
    letters = dead_letters(client)
    assert {letter["record"] for letter in letters} >= {bad[1], bad[2], bad[3], "no json"}
    reasons = " / ".join(letter["reason"] for letter in letters)
    assert "schema_version: Input should be 2" in reasons and "a decision row of version 9; known: 1" in reasons
    assert "no time" in reasons
    assert pending(client) == 0


def test_two_archivers_at_once_write_each_record_once(client: redis.Redis, tmp_path: Path) -> None:
    """Both follow; one ends in the middle, and the other takes its shards."""
    one, two = (archiver(client, tmp_path, shards=4, name=name, flush_s=0.02) for name in ("one", "two"))
    with following(two):
        with following(one):
            for number in range(200):
                add(client, [row(number)], shards=4)
        for number in range(200, 400):
            add(client, [row(number)], shards=4)
        until(lambda: len(lines_in(tmp_path, DECISIONS)) == 400, "all rows archived")
    assert lines_in(tmp_path, DECISIONS) == Counter(row(number).id for number in range(400))
    assert pending(client, 4) == 0
    assert one.summary.known.total() == two.summary.known.total() == 0


def test_a_shard_of_a_living_archiver_is_left_to_it(client: redis.Redis, tmp_path: Path) -> None:
    add(client, [row(1)])
    with ShardLocks(client, "other", 1.0) as locks:
        assert locks.take(0)
        summary = archiver(client, tmp_path, lease_s=1.0).once()
    assert (summary.busy, summary.written.total()) == ({0}, 0)
    assert archiver(client, tmp_path).once().written[DECISIONS] == 1


def test_an_archiver_that_lost_its_lock_writes_nothing(client: redis.Redis, tmp_path: Path) -> None:
    """It was frozen so long that another one took over; it finds out before its file can be seen."""
    add(client, [row(1)])

    class Frozen(Store):
        def put(self, path: str, data: bytes, before: Any = None) -> None:
            client.set(shard_key(0, "archiver"), "another")
            super().put(path, data, before)

    frozen = Archiver(client, 1, Frozen(str(tmp_path)), "frozen", lease_s=30)
    with pytest.raises(ConfigError, match="another archiver took it over"):
        frozen.once()
    assert not lines_in(tmp_path, DECISIONS)
    client.delete(shard_key(0, "archiver"))
    archiver(client, tmp_path).once()
    assert lines_in(tmp_path, DECISIONS) == Counter([row(1).id])


def test_following_goes_on_over_a_redis_that_was_away_and_lost_everything(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    redis_process.start("--save", "")
    with redis.Redis.from_url(redis_process.url) as client:
        add(client, [row(1)])
        with following(archiver(client, tmp_path, flush_s=0.02)):
            until(lambda: lines_in(tmp_path, DECISIONS), "the first row")
            redis_process.stop()
            redis_process.start("--save", "")
            add(client, [row(1), row(2)])
            until(lambda: len(lines_in(tmp_path, DECISIONS)) == 2, "the second row")
    assert lines_in(tmp_path, DECISIONS) == Counter(row(number).id for number in (1, 2))


def test_stopping_writes_what_was_read(client: redis.Redis, tmp_path: Path) -> None:
    add(client, some_of_everything())
    with following(archiver(client, tmp_path, flush_s=3600)):
        until(lambda: pending(client) == 34, "everything read")
        assert not counts(tmp_path)[DECISIONS]
    assert counts(tmp_path) == everything_once()
    assert not client.exists(shard_key(0, "archiver"))


def test_many_records_make_several_writes(client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_RECORDS", 100)
    add(client, [row(number) for number in range(450)])
    told: list[int] = []
    archiver(client, tmp_path, told=lambda summary: told.append(summary.files)).once()
    assert lines_in(tmp_path, DECISIONS) == Counter(row(number).id for number in range(450))
    assert len(told) == told[-1] > 2


def test_the_erased_are_not_archived_and_the_archive_knows_of_them(client: redis.Redis, tmp_path: Path) -> None:
    add(client, [said(1, user="u1"), said(2), said(3, user="u1", at=NOON + 9), label(2, "ambiguous", key="u1"), row(1)])
    tombstones = Tombstones({Subject("user", "u1").digest: NOON})
    write_tombstones(client, tombstones)
    summary = archiver(client, tmp_path).once()
    assert lines_in(tmp_path, DISAGREEMENTS) == Counter([said(2).id, said(3).id])
    assert (summary.erased[DISAGREEMENTS], summary.written[LABELS], summary.written[DECISIONS]) == (1, 1, 1)
    assert Store(str(tmp_path)).tombstones() == tombstones
    assert pending(client) == 0


def test_who_is_erased_while_a_file_is_written_is_not_in_it(client: redis.Redis, tmp_path: Path) -> None:
    add(client, [said(1, user="u1"), said(2)])

    class Late(Store):
        def put(self, path: str, data: bytes, before: Any = lambda: None) -> None:
            super().put(path, data, before)
            if path.startswith(DISAGREEMENTS):
                write_tombstones(client, Tombstones({Subject("user", "u1").digest: NOON + 1}))

    Archiver(client, 1, Late(str(tmp_path)), "late", lease_s=30).once()
    assert lines_in(tmp_path, DISAGREEMENTS) == Counter([said(2).id])


def test_a_file_of_a_killed_try_does_not_keep_the_erased(client: redis.Redis, tmp_path: Path) -> None:
    """It was written but not acknowledged; then its speaker was erased in Redis alone."""
    add(client, [said(1, user="u1"), said(2)])
    archiver(client, tmp_path).once()
    client.xgroup_destroy(shard_key(0, DISAGREEMENTS), GROUP)
    write_tombstones(client, Tombstones({Subject("user", "u1").digest: NOON + 1}))
    archiver(client, tmp_path).once()
    assert lines_in(tmp_path, DISAGREEMENTS) == Counter([said(2).id])


def test_redis_remembers_its_archives_and_gets_their_tombstones_back(client: redis.Redis, tmp_path: Path) -> None:
    tombstones = Tombstones({Subject("key", "app").digest: NOON})
    Store(str(tmp_path)).bury(tombstones)
    add(client, [said(1, key="app")])
    archiver(client, tmp_path).once()
    assert client.smembers(ARCHIVES) == {str(tmp_path).encode()}
    assert not lines_in(tmp_path, DISAGREEMENTS)


def test_a_lock_ends_by_itself_and_is_renewed_while_held(client: redis.Redis) -> None:
    with ShardLocks(client, "one", 0.2) as one, ShardLocks(client, "two", 0.2) as two:
        assert one.take(0) and one.take(0)
        assert not two.take(0)
        one.forget()
        until(lambda: two.take(0), "the lock")
        with pytest.raises(LockLost):
            one.check(0)
        two.check(0)
    assert not client.exists(shard_key(0, "archiver"))


def test_a_follower_takes_over_what_an_archiver_without_the_lock_was_given(client: redis.Redis, tmp_path: Path) -> None:
    """One that was frozen, and read on for a moment before it found out."""
    add(client, [row(1)])
    with following(archiver(client, tmp_path, flush_s=0.05)):
        until(lambda: lines_in(tmp_path, DECISIONS), "the first row")
        add(client, [said(1)])
        Group(client, 0, "frozen").fresh()
        until(lambda: lines_in(tmp_path, DISAGREEMENTS) and not pending(client), "the pair")


class NoBucket(MemoryFileSystem):  # type: ignore[misc]  # untyped there
    """An object store that says so late, as S3 does."""

    protocol = "nobucket"

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        raise FileNotFoundError("The specified bucket does not exist")


def test_an_archive_that_takes_no_file_is_a_message(client: redis.Redis) -> None:
    fsspec.register_implementation("nobucket", NoBucket, clobber=True)
    add(client, [row(1)])
    with pytest.raises(ConfigError, match="archive nobucket://a/b: The specified bucket does not exist"):
        archiver(client, "nobucket://a/b").once()
    assert pending(client) == 1


def test_redis_that_is_away_is_a_message(redis_process: RedisProcess, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_process.url) as client:
        with pytest.raises(ConfigError, match="redis: no answer"):
            archiver(client, tmp_path).once()
        with pytest.raises(ConfigError, match="redis: no answer"):
            archiver(client, tmp_path).follow(threading.Event())
