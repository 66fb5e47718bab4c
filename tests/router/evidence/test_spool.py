"""The spool: bounded, whole lines only, one process at a time on a segment, nothing twice."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.evidence.spool import SUFFIX, Record, Spool, SpoolFull, read_spool

MEGABYTE = 1024 * 1024
STREAM = "a-stream"
SEGMENTS = 300
REPLAYERS = 4


def records(*numbers: int, stream: str = STREAM) -> list[Record]:
    return [(stream, b'{"n": %d}' % number) for number in numbers]


def everything(spool: Spool) -> list[Record]:
    """Replays the whole spool."""
    taken: list[Record] = []
    while (some := spool.take()) is not None:
        taken += some
        spool.done()
    return taken


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond it fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_written_comes_back_in_order_and_once(tmp_path: Path) -> None:
    writer, reader = Spool(tmp_path, MEGABYTE), Spool(tmp_path, MEGABYTE)
    writer.append(records(1, 2))
    writer.append(records(3))
    writer.close()
    writer.append(records(4))
    writer.close()
    assert list(read_spool(tmp_path, STREAM)) == [record for _, record in records(1, 2, 3, 4)]
    assert everything(reader) == records(1, 2, 3, 4)
    assert not list(tmp_path.iterdir())


def test_streams_are_kept_apart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    spool.append(records(1) + records(2, stream="other"))
    spool.close()
    assert list(read_spool(tmp_path, "other")) == [b'{"n": 2}']


def test_a_full_spool_takes_nothing_of_a_batch(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 40)
    spool.append(records(1))
    with pytest.raises(SpoolFull, match="40 bytes"):
        spool.append(records(2, 3))
    spool.close()
    assert everything(spool) == records(1)


def test_a_full_disk_takes_nothing_of_a_batch_and_later_ones_are_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    spool.append(records(1))
    with file_size_limit(60), pytest.raises(SpoolFull):
        spool.append(records(*range(2, 20)))
    spool.append(records(20))
    spool.close()
    assert everything(spool) == records(1, 20)


def test_a_folder_that_cannot_be_made_is_a_full_spool(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolFull):
        Spool(tmp_path / "file", MEGABYTE).append(records(1))


def test_half_a_line_that_a_crash_left_is_dropped(tmp_path: Path) -> None:
    (tmp_path / f"1-1{SUFFIX}").write_bytes(b'a-stream\t{"n": 1}\nno tab\n\xff\xfe\tx\na-stream\t{"n": ')
    assert everything(Spool(tmp_path, MEGABYTE)) == [*records(1), ("\ufffd\ufffd", b"x")]
    assert not list(tmp_path.iterdir())


def test_what_another_process_holds_is_left_alone(tmp_path: Path) -> None:
    mine, other = Spool(tmp_path, MEGABYTE), Spool(tmp_path, MEGABYTE)
    mine.append(records(1))
    assert other.take() is None
    mine.close()
    assert mine.take() == records(1)
    assert other.take() is None
    mine.close()
    assert other.take() == records(1)
    other.close()


def test_a_segment_that_somebody_has_just_removed_is_not_replayed_again(tmp_path: Path) -> None:
    """Between opening a segment and locking it another may replay and remove it: many try on the same ones."""
    for number in range(SEGMENTS):
        (tmp_path / f"{number:04d}{SUFFIX}").write_bytes(b"%b\t%d\n" % (STREAM.encode(), number))
    with ThreadPoolExecutor(REPLAYERS) as pool:
        parts = list(pool.map(lambda _: everything(Spool(tmp_path, MEGABYTE)), range(REPLAYERS)))
    replayed = [int(record) for part in parts for _, record in part]
    assert sorted(replayed) == list(range(SEGMENTS))


def test_what_is_left_of_a_segment_is_kept_and_the_rest_is_not_repeated(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    spool.append(records(1, 2, 3))
    spool.close()
    spool.append(records(4))
    assert spool.take() == records(1, 2, 3)
    spool.keep(records(3))
    assert everything(spool) == records(3, 4)


def test_a_file_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / f"0-0{SUFFIX}").mkdir()
    spool = Spool(tmp_path, MEGABYTE)
    spool.append(records(1))
    assert spool.take() == records(1)
    spool.close()


def test_processes_share_a_folder_and_every_record_is_replayed_by_one_of_them(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        replayed = pool.starmap(_write_and_replay, [(tmp_path, start) for start in (0, 1000)])
    left = everything(Spool(tmp_path, MEGABYTE))
    numbers = [record for part in (*replayed, left) for _, record in part]
    assert sorted(numbers) == sorted(record for _, record in records(*range(200), *range(1000, 1200)))


def _write_and_replay(folder: Path, start: int) -> list[Record]:
    spool, replayed = Spool(folder, MEGABYTE), []
    for number in range(start, start + 200):
        spool.append(records(number))
        if number % 7 == 0:
            replayed += everything(spool)
    spool.close()
    return replayed
