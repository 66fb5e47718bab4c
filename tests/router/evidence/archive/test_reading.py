"""An archive is read like Redis and the spool, together with them, each record once and without the erased."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import redis
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import ConfigError
from router.evidence.archive.archive import Archive
from router.evidence.archive.source import labelled, sources
from router.evidence.archive.store import Store
from router.evidence.archive.tables import TABLES, row_of
from router.evidence.erasure import Subject, Tombstones, write_tombstones
from router.evidence.records import Triage
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS
from router.record.row import FIELDS, VERSION, DecisionRow, RowCharge, encode_row
from router.settings import Settings, parse
from tests.router.evidence.archive.made import DAY_S, NOON, add, archive_files, forget_memory, label, lines_in, said
from tests.router.evidence.conftest import RedisProcess
from tests.support.gateway import two_models
from tests.support.pairs import spool_pairs

MEMORY = "memory://archive"


@pytest.fixture(params=["folder", MEMORY])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    yield str(tmp_path / "archive") if request.param == "folder" else MEMORY
    forget_memory()


def settings_for(folder: Path, server: RedisProcess | None = None) -> Settings:
    top: dict[str, Any] = {"redis": server.url} if server else {}
    config = two_models("http://t/v1", "http://s/v1", evidence={"spool_dir": str(folder)}, **top)
    return parse(yaml.safe_dump(config), {})


def full_row(number: int) -> DecisionRow:
    """With every kind of field."""
    return DecisionRow(
        VERSION,
        f"{number:022x}",
        NOON + number,
        "chat",
        rt="auto",
        f=(120, ["tools"]),
        s=(-0.25, None),
        g=["context"],
        ch=[RowCharge("serve", "teacher", 12_000, 3, 0, 4), RowCharge("shadow", "student", 7)],
        tt=1.5,
        fo=1,
    )


def test_what_was_archived_is_read_as_it_was(url: str) -> None:
    records = [said(1, key="app", user="u1"), said(2, harm=False), said(3, at=NOON + 2 * DAY_S)]
    rows, labels = [full_row(1), full_row(2)], [label(1, "teacher_wrong"), label(1, "ambiguous", by="bob")]
    archive_files(Store(url), [*records, *rows, *labels])
    archive = Archive(url)
    assert list(archive.pairs()) == [records[0], records[2], records[1]]
    assert list(archive.pairs(agreements=False)) == [records[0], records[2]]
    assert list(archive.rows()) == rows
    assert list(archive.labels()) == labels


def test_since_leaves_out_earlier_records_and_opens_no_earlier_day(url: str) -> None:
    store = Store(url)
    archive_files(store, [said(number, at=NOON + number * DAY_S) for number in range(4)])
    archive_files(store, [DecisionRow(VERSION, f"{n:022x}", NOON + n, "chat") for n in range(4)])
    first, *_ = store.parts(DISAGREEMENTS)
    store.put(first.path, b"no Parquet")
    late = [record.time for record in Archive(url).pairs(since=NOON + 2 * DAY_S)]
    assert late == [NOON + 2 * DAY_S, NOON + 3 * DAY_S]
    assert [r.t for r in Archive(url).rows(since=NOON + 2)] == [NOON + 2, NOON + 3]
    with pytest.raises(ConfigError, match="cannot be read"):
        list(Archive(url).pairs())


def test_a_record_that_is_in_two_files_is_read_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    archive_files(store, [said(number, at=NOON + number) for number in range(5)])
    (part,) = store.parts(DISAGREEMENTS)
    copy = tmp_path / part.path.replace(".parquet", "").replace(part.path[-24:-8], "f" * 16)
    shutil.copy(tmp_path / part.path, f"{copy}.parquet")
    assert lines_in(tmp_path, DISAGREEMENTS).most_common(1)[0][1] == 2
    assert len(list(Archive(str(tmp_path)).pairs())) == 5


def test_other_tools_find_columns_to_filter_by(tmp_path: Path) -> None:
    archive_files(Store(str(tmp_path)), [said(1, key="app", user="u1"), full_row(1)])
    pairs = pyarrow.parquet.read_table(tmp_path / DISAGREEMENTS)
    assert pairs["day"].to_pylist() == ["2023-11-14"]
    assert (pairs["key"][0].as_py(), pairs["users"][0].as_py(), pairs["harm"][0].as_py()) == ("app", ["u1"], True)
    assert pairs["triage"][0].as_py() == "student_wrong"
    rows = pyarrow.parquet.read_table(tmp_path / DECISIONS)
    assert set(DecisionRow.__struct_fields__) <= set(rows.column_names)
    assert rows["ch"][0].as_py() == '[["serve","teacher",12000,3,0,4,0,0],["shadow","student",7,0,0,0,0,0]]'


def test_an_archive_from_before_a_new_field_is_read() -> None:
    line = TABLES[DECISIONS].line(encode_row(full_row(1)))
    del line["sv"], line["ns"]
    assert row_of(line) == full_row(1)


def test_every_column_of_a_row_is_explained() -> None:
    for column in TABLES[DECISIONS].schema:
        assert column.metadata[b"description"].decode() == FIELDS[column.name]


def test_the_erased_are_not_read_from_an_archive_that_still_holds_them(url: str) -> None:
    store = Store(url)
    gone, later = said(1, user="u1", at=NOON), said(2, user="u1", at=NOON + 10)
    archive_files(store, [gone, later, said(3, key="u1")])
    store.bury(Tombstones({Subject("user", "u1").digest: NOON + 5}))
    assert {record.id for record in Archive(url).pairs()} == {later.id, said(3).id}


def test_nothing_at_the_url_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is there"):
        Archive(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="expected a folder or s3://"):
        Archive("nosuch://bucket/prefix")


def test_redis_spool_and_archives_are_one_source(redis_process: RedisProcess, tmp_path: Path) -> None:
    redis_process.start()
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    archive_files(Store(one), [said(1), said(2), full_row(1), label(1, "ambiguous", at=NOON)])
    archive_files(Store(two), [said(2), said(3, harm=False), full_row(2)])
    with redis.Redis.from_url(redis_process.url) as client:
        add(client, [said(3, harm=False), said(4), full_row(2), full_row(3), label(1, "equivalent", at=NOON + 1)])
    spool_pairs(tmp_path / "spool", [said(4), said(5)], [full_row(3), full_row(4)])
    source = sources(settings_for(tmp_path / "spool", redis_process), [one, two])
    found = {record.id: record for record in source.pairs()}
    assert sorted(found) == [said(number).id for number in (1, 2, 3, 4, 5)]
    assert len(list(source.pairs())) == 5
    assert sorted(r.id for r in source.rows()) == [full_row(number).id for number in (1, 2, 3, 4)]
    assert found[said(1).id].triage == Triage(label="equivalent", basis="human")
    assert found[said(2).id].triage == said(2).triage
    assert [label.label for label in source.labels()] == ["ambiguous", "equivalent"]


def test_without_archives_the_source_is_what_the_gateway_has(tmp_path: Path) -> None:
    spool_pairs(tmp_path, [said(1), said(2, at=NOON + 60)], [full_row(1)])
    source = sources(settings_for(tmp_path), [])
    assert [record.id for record in source.pairs(since=NOON + 30)] == [said(2).id]
    assert list(source.rows()) == [full_row(1)]


@pytest.mark.parametrize("known_to", ["redis", "archive"])
def test_who_was_erased_anywhere_is_read_from_nowhere(
    redis_process: RedisProcess, tmp_path: Path, known_to: str
) -> None:
    redis_process.start()
    url = str(tmp_path / "archive")
    archive_files(Store(url), [said(1, key="app"), said(2)])
    tombstones = Tombstones({Subject("key", "app").digest: NOON + 5})
    with redis.Redis.from_url(redis_process.url) as client:
        add(client, [said(3, key="app"), said(4, key="app", at=NOON + 9), label(2, "ambiguous", key="app")])
        if known_to == "redis":
            write_tombstones(client, tombstones)
        else:
            Store(url).bury(tombstones)
    source = sources(settings_for(tmp_path / "spool", redis_process), [url])
    assert {record.id for record in source.pairs()} == {said(2).id, said(4).id}
    assert not list(source.labels())


def test_the_latest_label_counts_whatever_the_order() -> None:
    late, early = label(1, "teacher_wrong", at=NOON + 2), label(1, "student_wrong", at=NOON + 1)
    for labels in ([late, early], [early, late]):
        (told, other) = labelled([said(1), said(2)], labels)
        assert told.triage == Triage(label="teacher_wrong", basis="human")
        assert other == said(2)


TIMES = st.lists(st.floats(0, 4e9), min_size=1, max_size=40)


@settings(deadline=None)
@given(TIMES, st.data())
def test_files_say_truly_which_times_they_hold(times: list[float], data: st.DataObject) -> None:
    """Whatever the times, a record's own file spans it and no query for its time misses it."""
    store = Store("memory://times")
    try:
        archive_files(store, [said(number, at=at) for number, at in enumerate(times)])
        for at in times:
            assert any(part.spans([at]) for part in store.parts(DISAGREEMENTS, at, at))
        since = data.draw(st.sampled_from(times) | st.floats(0, 4e9))
        kept = [record.time for record in Archive("memory://times").pairs(since=since)]
        assert sorted(kept) == sorted(at for at in times if at >= since)
    finally:
        forget_memory()


def test_agreements_have_their_own_folder(url: str) -> None:
    archive_files(Store(url), [said(1, harm=False)])
    assert list(lines_in(url, AGREEMENTS)) == [said(1).id]
    assert not lines_in(url, DISAGREEMENTS)


def test_others_on_the_machine_cannot_read_an_archive(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    archive_files(Store(str(folder)), [said(1)])
    (part,) = folder.glob("*/*/*.parquet")
    assert (folder.stat().st_mode & 0o777, part.stat().st_mode & 0o777) == (0o700, 0o600)
