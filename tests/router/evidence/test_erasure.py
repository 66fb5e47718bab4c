"""What a person or key said is removed from Redis, spool and archives, and stays away; nobody else loses anything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from router.cli.erase import erase_everywhere
from router.errors import ConfigError
from router.evidence.archive.erase import InArchive
from router.evidence.archive.group import DEAD
from router.evidence.archive.store import Store
from router.evidence.batches import Record
from router.evidence.counts import read_totals
from router.evidence.erasing import InSpool, InStreams, Place
from router.evidence.erasure import (
    Subject,
    Tombstones,
    from_names,
    now_s,
    parse_subject,
    read_tombstones,
    tombstone_name,
    who,
    write_tombstones,
)
from router.evidence.records import users_of
from router.evidence.redis import connect
from router.evidence.segment import Frame
from router.evidence.spool import Log, Spool, read_spool
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, LABELS, shard_key
from router.evidence.writer import EvidenceWriter
from router.evidence_settings import Evidence
from router.record.metrics import Metrics
from router.record.row import encode_row
from router.settings import Config, Secrets, Settings
from tests.router.evidence.archive.made import (
    NOON,
    Something,
    add,
    archive_files,
    archiver,
    encoded,
    label,
    lines_in,
    said,
)
from tests.router.evidence.archive.made import stream_of as stream
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import eventually, two_models
from tests.support.pairs import row, spool_records

ANN = Subject("user", "ann")
APP = Subject("key", "app")
MEGABYTE = 1024 * 1024
MINE = [said(1, user="ann"), said(2, user="ann", harm=False), said(3, user="ann", key="app")]
OTHERS = [said(4), said(5, user="bob", harm=False), said(6, key="ann"), said(7, user="ann", at=NOON + 60)]
LABELS_OF_MINE = [label(1, "ambiguous"), label(3, "teacher_wrong", at=NOON + 90)]
OTHER_LABELS = [label(4, "ambiguous"), label(7, "equivalent")]
EVERYTHING: list[Something] = [*MINE, *OTHERS, *LABELS_OF_MINE, *OTHER_LABELS]
KEPT: list[Something] = [*OTHERS, *OTHER_LABELS]
GONE = Tombstones({ANN.digest: NOON + 30})


@pytest.fixture
def client(redis_process: RedisProcess) -> Iterator[redis.Redis]:
    redis_process.start("--save", "")
    with redis.Redis.from_url(redis_process.url) as client:
        yield client


def kept_in(client: redis.Redis, shards: int = 1) -> Counter[bytes]:
    names = {stream(record) for record in EVERYTHING}
    keys = [shard_key(shard, name) for shard in range(shards) for name in names]
    return Counter(fields[b"r"] for key in keys for _, fields in cast(Any, client.xrange(key)))


def kept_in_spool(folder: Path) -> Counter[bytes]:
    return Counter(data for name in {stream(record) for record in EVERYTHING} for data in read_spool(folder, name))


def leave_log(folder: Path) -> None:
    """By a gateway that has ended."""
    spool_records(folder, [Record(stream(record), record.id, encoded(record)) for record in EVERYTHING])


def test_streams_lose_the_subject_and_nothing_else(client: redis.Redis) -> None:
    add(client, EVERYTHING, shards=3)
    add(client, [row(1)])
    erased = erase_everywhere([InStreams(client, 3, ANN)], GONE, 0)
    assert kept_in(client, 3) == Counter(map(encoded, KEPT))
    assert (erased.pairs["Redis"], erased.labels["Redis"], erased.left) == (3, 2, {})
    assert client.xlen(shard_key(0, DECISIONS)) == 1


def test_the_spool_loses_the_subject_and_its_books_stay_right(tmp_path: Path) -> None:
    leave_log(tmp_path)
    before = read_totals(tmp_path)
    (place,) = places = [InSpool(tmp_path, MEGABYTE)]
    erased = erase_everywhere(places, GONE, 0)
    assert kept_in_spool(tmp_path) == Counter(map(encoded, KEPT))
    assert (erased.pairs[place.name], erased.labels[place.name], erased.left) == (3, 2, {})
    assert read_totals(tmp_path) == before
    assert b"question 1" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


async def test_a_log_that_was_erased_from_is_brought_to_redis(
    client: redis.Redis, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """By the next gateway, which counts what is missing as dropped."""
    leave_log(tmp_path)
    erase_everywhere([InSpool(tmp_path, MEGABYTE)], GONE, 0)
    configured = Settings(config=Config.model_validate(two_models("http://t", "http://s")), secrets=Secrets())
    metrics = Metrics()
    redis_client = connect(redis_process.url, configured)
    writer = EvidenceWriter(Evidence(spool_dir=tmp_path), redis_client, metrics, retry_s=0.2, sure_s=0.2)
    writer.start()
    await eventually(lambda: not list(tmp_path.glob("*.wal")), "the log")
    await writer.close()
    await redis_client.aclose()
    assert kept_in(client) == Counter(map(encoded, KEPT))
    assert metrics.records_dropped.labels("unknown_stream")._value.get() == 5


def test_an_archive_loses_the_subject_and_nothing_else(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    archive_files(store, EVERYTHING)
    archive_files(store, [said(8, user="ann")])
    archive_files(store, [row(1)])
    (place,) = places = [InArchive(store)]
    erased = erase_everywhere(places, GONE, 0)
    assert (erased.pairs[place.name], erased.labels[place.name], erased.left) == (4, 2, {})
    assert lines_in(tmp_path, DISAGREEMENTS) == Counter(said(number).id for number in (4, 6, 7))
    assert [name.split(":")[0] for name in lines_in(tmp_path, LABELS)] == [said(4).id, said(7).id]
    assert lines_in(tmp_path, DECISIONS).total() == 1
    assert len(store.parts(DISAGREEMENTS)) == 1  # a file of which nothing is left is gone


def test_an_archive_in_an_object_store_loses_the_subject() -> None:
    store = Store("memory://erased")
    archive_files(store, EVERYTHING)
    assert not erase_everywhere([InArchive(store)], GONE, 0).left
    assert lines_in("memory://erased", DISAGREEMENTS).total() == 3


def test_a_label_in_one_place_goes_with_its_pair_in_another(client: redis.Redis, tmp_path: Path) -> None:
    archive_files(Store(str(tmp_path)), MINE)
    add(client, [*LABELS_OF_MINE, *OTHER_LABELS])
    erased = erase_everywhere([InStreams(client, 1, ANN), InArchive(Store(str(tmp_path)))], GONE, 0)
    assert erased.labels == {"Redis": 2, f"the archive {tmp_path}": 0}
    assert kept_in(client) == Counter(map(encoded, OTHER_LABELS))


def test_what_a_key_said_of_others_goes_with_the_key(client: redis.Redis) -> None:
    kept: list[Something] = [said(2), label(2, "equivalent", by="bob")]
    add(client, [said(1, key="app"), label(2, "ambiguous", key="app"), *kept])
    erase_everywhere([InStreams(client, 1, APP)], Tombstones({APP.digest: NOON}), 0)
    assert kept_in(client) == Counter(map(encoded, kept))


def test_erasing_again_removes_nothing_more(client: redis.Redis, tmp_path: Path) -> None:
    leave_log(tmp_path / "spool")
    archive_files(Store(str(tmp_path / "archive")), EVERYTHING)
    add(client, EVERYTHING)
    places: list[Place] = [
        InSpool(tmp_path / "spool", MEGABYTE),
        InStreams(client, 1, ANN),
        InArchive(Store(str(tmp_path / "archive"))),
    ]
    first, again = erase_everywhere(places, GONE, 0), erase_everywhere(places, GONE, 0)
    assert first.pairs.total() == 9 and first.labels.total() == 6
    assert again.pairs.total() == again.labels.total() == 0


@pytest.mark.parametrize("steps", range(1, 6))
def test_a_run_that_was_cut_short_is_finished_by_the_next(client: redis.Redis, tmp_path: Path, steps: int) -> None:
    """Cut between any two of its changes: the labels are found although some of their pairs are gone."""
    archive_files(Store(str(tmp_path)), MINE[:1])
    add(client, [*MINE[1:], *OTHERS, *LABELS_OF_MINE, *OTHER_LABELS])
    left = [steps]

    class Cut(Exception):
        pass

    class CutRedis(redis.Redis):
        def execute_command(self, *args: object, **options: object) -> object:
            if args[0] == "XDEL":
                left[0] -= 1
                if left[0] < 0:
                    raise Cut
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # untyped there

    archive = InArchive(Store(str(tmp_path)))
    cut = CutRedis(connection_pool=client.connection_pool)
    try:
        erase_everywhere([archive, InStreams(cut, 1, ANN)], GONE, 0)
    except Cut:
        assert steps < 4
    assert not erase_everywhere([archive, InStreams(client, 1, ANN)], GONE, 0).left
    assert kept_in(client) == Counter(map(encoded, KEPT))
    assert not lines_in(tmp_path, DISAGREEMENTS)


def test_dead_letters_of_the_subject_go_even_where_nobody_can_read_them(client: redis.Redis) -> None:
    unreadable = [
        said(1, user="ann").model_dump_json().replace('"schema_version":2', '"schema_version":99'),
        '{"users": ["ann"], "torn',
        '{"users":["anne"], "torn',
        '{"prompt":"ann"}',
    ]
    for data in unreadable:
        client.xadd(shard_key(0, DISAGREEMENTS), {"r": data})
    archiver(client, "memory://dead").once()
    assert client.xlen(shard_key(0, DEAD)) == 4
    client.xtrim(shard_key(0, DISAGREEMENTS), maxlen=0, approximate=False)
    assert erase_everywhere([InStreams(client, 1, ANN)], GONE, 0).pairs["Redis"] == 2
    letters = [json.loads(fields[b"r"]) for _, fields in cast(Any, client.xrange(shard_key(0, DEAD)))]
    assert [letter["record"] for letter in letters] == unreadable[2:]


def dead(client: redis.Redis) -> list[str]:
    """The records of the dead letters."""
    return [json.loads(fields[b"r"])["record"] for _, fields in cast(Any, client.xrange(shard_key(0, DEAD)))]


def bury_all(client: redis.Redis, records: dict[str, list[str]]) -> None:
    """Let an archiver find them, which cannot read any, and forget the streams."""
    for name, some in records.items():
        for data in some:
            client.xadd(shard_key(0, name), {"r": data})
    archiver(client, "memory://dead").once()
    assert sorted(dead(client)) == sorted(data for some in records.values() for data in some)
    client.delete(*(shard_key(0, name) for name in records))


def unreadable(record: Something) -> str:
    return encoded(record).decode().replace('"schema_version":', '"schema_version":9')


def test_a_dead_label_goes_with_its_pair(client: redis.Redis) -> None:
    torn = unreadable(label(1, "ambiguous"))[:-2]
    other = unreadable(label(4, "ambiguous"))
    bury_all(client, {LABELS: [unreadable(label(1, "ambiguous")), torn, other]})
    add(client, [said(1, user="ann"), said(4)])
    erased = erase_everywhere([InStreams(client, 1, ANN)], GONE, 0)
    assert (erased.labels["Redis"], erased.pairs["Redis"], dead(client), erased.left) == (2, 1, [other], {})


def test_the_labels_of_a_dead_pair_go_with_it(client: redis.Redis) -> None:
    bury_all(client, {DISAGREEMENTS: [unreadable(said(1, user="ann"))]})
    add(client, [label(1, "ambiguous"), label(4, "ambiguous")])
    erased = erase_everywhere([InStreams(client, 1, ANN)], GONE, 0)
    assert (erased.labels["Redis"], erased.pairs["Redis"], dead(client)) == (1, 1, [])
    assert kept_in(client) == Counter([encoded(label(4, "ambiguous"))])


@pytest.mark.parametrize("at", [NOON * 1000, 1e300, -5.0])
def test_a_dead_pair_whose_time_is_none_goes_too(client: redis.Redis, at: float) -> None:
    other = encoded(said(2, user="bob", at=at)).decode()
    bury_all(client, {DISAGREEMENTS: [encoded(said(1, user="ann", at=at)).decode(), other]})
    tombstones = Tombstones({ANN.digest: now_s()})
    assert not erase_everywhere([InStreams(client, 1, ANN)], tombstones, 0).left
    assert dead(client) == [other]


def test_a_dead_pair_that_only_its_text_tells_of_goes_by_each_name(client: redis.Redis) -> None:
    mine = [
        '{"users":["x, \\"y\\"", "ann"],"time":"noon"}',
        '{"request":{"safety_identifier": "ann","us',
        '{"request":{"user":"ann"',
    ]
    mine.append(f'{{"time":{NOON},"user":"ann"}}')
    others = ['{"users":["x"],"note":"ann"}', '{"users":["ann, bob"]}', '{"key":"ann"']
    others.append(f'{{"time":{NOON + 60},"user":"ann"}}')
    bury_all(client, {AGREEMENTS: [*mine, *others]})
    assert erase_everywhere([InStreams(client, 1, ANN)], GONE, 0).pairs["Redis"] == 4
    assert dead(client) == others


def test_what_is_no_dead_letter_stays_and_breaks_nothing(client: redis.Redis) -> None:
    for fields in ({"x": "y"}, {"r": "ann"}, {"r": b"\xff"}, {"r": "[]"}, {"r": '{"record":"ann"}'}):
        client.xadd(shard_key(0, DEAD), cast(Any, fields))
    assert not erase_everywhere([InStreams(client, 1, ANN)], GONE, 0).left
    assert client.xlen(shard_key(0, DEAD)) == 5


def test_the_log_of_a_running_gateway_is_waited_for_and_told_of(tmp_path: Path) -> None:
    log = Log.create(Spool(tmp_path, MEGABYTE))
    log.append([Frame(0, 1, 2, 0.0, {DISAGREEMENTS: [encoded(MINE[0]), encoded(OTHERS[0])]})])
    (place,) = places = [InSpool(tmp_path, MEGABYTE)]
    erased = erase_everywhere(places, GONE, 0)
    assert erased.left == {place.name: 1} and erased.pairs.total() == 0
    log.close()
    assert not erase_everywhere(places, GONE, 0).left
    assert list(read_spool(tmp_path, DISAGREEMENTS)) == [encoded(OTHERS[0])]


def test_a_later_time_of_a_tombstone_stays(client: redis.Redis) -> None:
    for at in (NOON, NOON + 2, NOON + 1):
        write_tombstones(client, Tombstones({ANN.digest: at}))
    assert read_tombstones(client) == Tombstones({ANN.digest: NOON + 2})
    names = [tombstone_name(ANN.digest, at) for at in (NOON, NOON + 2, NOON + 1)]
    assert from_names([*names, "a stranger's file"]) == Tombstones({ANN.digest: NOON + 2})


def test_a_tombstone_does_not_show_its_subject(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.bury(GONE)
    shown = "".join(f"{path}{path.read_text()}" for path in tmp_path.rglob("*.json"))
    assert shown and "ann" not in shown.replace(str(tmp_path), "")


def test_a_decision_row_tells_of_nobody() -> None:
    assert who(encode_row(row(1))) is None


@pytest.mark.parametrize("text", ["ann", "key:", "tenant:x", ":x", ""])
def test_a_subject_says_its_kind(text: str) -> None:
    with pytest.raises(ConfigError, match="expected key:NAME"):
        parse_subject(text)


def test_a_subject_may_hold_anything_after_its_kind() -> None:
    assert parse_subject("user:https://id.example/ann:1") == Subject("user", "https://id.example/ann:1")


NAMES = st.text(min_size=1, max_size=3)


@pytest.mark.parametrize("name", ["hash-1", "4711"])
def test_a_pair_goes_by_each_name_of_its_user(name: str, tmp_path: Path) -> None:
    mine = said(1).model_copy(update={"users": ["hash-1", "4711"]})
    store = Store(str(tmp_path))
    archive_files(store, [mine, said(2)])
    gone = Tombstones({Subject("user", name).digest: NOON})
    assert gone.drops_record(encoded(mine)) and not gone.drops_record(encoded(said(2)))
    erase_everywhere([InArchive(store)], gone, 0)
    assert lines_in(tmp_path, DISAGREEMENTS) == Counter([said(2).id])


@pytest.mark.parametrize(
    ("request_", "users"),
    [
        ({"safety_identifier": "a", "user": "b"}, ["a", "b"]),
        ({"safety_identifier": "", "user": "b"}, ["b"]),
        ({"safety_identifier": "a", "user": "a"}, ["a"]),
        ({"safety_identifier": 1, "user": None}, []),
        ({}, []),
    ],
)
def test_every_name_of_a_user_counts(request_: dict[str, object], users: list[str]) -> None:
    assert users_of(request_) == users


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, NAMES, st.floats(0, 100)), max_size=30), NAMES, st.floats(0, 100))
def test_exactly_what_the_subject_said_by_then_is_dropped(
    records: list[tuple[str, str, float]], name: str, until: float
) -> None:
    for subject in (Subject("user", name), Subject("key", name)):
        tombstones = Tombstones({subject.digest: until})
        for key, user, at in records:
            assert tombstones.drops(key, [user], at) == (subject.said(key, [user]) and at <= until)
            data = said(1, key=key, user=user, at=at).model_dump_json().encode()
            assert tombstones.drops_record(data) == (subject.said(key, [user]) and at <= until)
