"""The logs in the spool: bounded, whole frames only, one process at a time on each, and what is damaged is known."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.evidence.counts import KEPT, PRODUCED
from router.evidence.segment import Frame
from router.evidence.spool import SUFFIX, Log, NoNet, Spool, Unread, read_spool

MEGABYTE = 1024 * 1024
STREAM = "decisions"


def frame(log: Log, *numbers: int, stream: str = STREAM, shard: int = 0) -> Frame:
    """The next one of a log."""
    return Frame(shard, numbers[0], log.total + len(numbers), 0.0, {stream: [b'{"n":%d}' % n for n in numbers]})


def append(log: Log, *numbers: int, stream: str = STREAM) -> None:
    log.append([frame(log, *numbers, stream=stream)])


def in_spool(folder: Path, stream: str = STREAM) -> list[int]:
    return [int(record[5:-1]) for record in read_spool(folder, stream)]


def contents(log: Log) -> list[int]:
    """Read as a process reads that takes a log over."""
    return [
        int(record[5:-1])
        for segment in log.segments
        for read in log.read(segment)
        for records in read.records.values()
        for record in records
    ]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond it fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """A segment is there and cannot be read, as where a process has no file descriptor left."""
    aside = path.with_suffix(".aside")
    path.rename(aside)
    path.symlink_to(path.parent)
    try:
        yield
    finally:
        aside.replace(path)


def test_what_was_written_comes_back_in_order(tmp_path: Path) -> None:
    log = Log.create(Spool(tmp_path, MEGABYTE))
    append(log, 1, 2)
    log.rotate()
    append(log, 3)
    assert in_spool(tmp_path) == [1, 2, 3]
    log.rotate()
    assert contents(log) == [1, 2, 3]
    assert log.total == 3
    log.close()


def test_streams_are_kept_apart(tmp_path: Path) -> None:
    log = Log.create(Spool(tmp_path, MEGABYTE))
    append(log, 1)
    append(log, 2, stream="labels")
    assert in_spool(tmp_path, "labels") == [2]
    log.close()


def test_what_redis_has_by_its_marker_is_left_out(tmp_path: Path) -> None:
    log = Log.create(Spool(tmp_path, MEGABYTE))
    log.append([Frame(0, 1, 1, 0.0, {STREAM: [b"a"]}), Frame(1, 1, 2, 0.0, {STREAM: [b"b"]})])
    log.append([Frame(0, 2, 3, 0.0, {STREAM: [b"c"]})])
    asked = set()

    def marker(producer: str, shard: int) -> int:
        asked.add(producer)
        return 1 if shard == 0 else 0

    assert list(read_spool(tmp_path, STREAM, marker)) == [b"b", b"c"]
    assert asked == {log.producer}
    log.close()


def test_a_full_spool_takes_nothing_of_a_batch(tmp_path: Path) -> None:
    log = Log.create(Spool(tmp_path, 80))
    append(log, 1)
    with pytest.raises(NoNet, match="80 bytes"):
        append(log, 2, 3)
    assert log.total == 1 and in_spool(tmp_path) == [1]
    log.close()


def test_logs_of_other_processes_count_towards_the_bound(tmp_path: Path) -> None:
    other = Log.create(Spool(tmp_path, 100))
    append(other, 1, 2, 3)
    log = Log.create(Spool(tmp_path, 100))
    with pytest.raises(NoNet):
        append(log, 4, 5, 6)
    other.close()
    log.close()


def test_a_full_disk_takes_nothing_of_a_batch_and_later_ones_are_whole(tmp_path: Path) -> None:
    log = Log.create(Spool(tmp_path, MEGABYTE))
    append(log, 1)
    with file_size_limit(100), pytest.raises(NoNet):
        append(log, *range(2, 40))
    append(log, 20)
    log.rotate()
    assert contents(log) == [1, 20] and log.total == 2
    assert [segment.damaged for segment in log.segments] == [0]
    log.close()


def test_a_folder_that_cannot_be_made_is_no_net(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log = Log.create(Spool(tmp_path / "file", MEGABYTE))
    with pytest.raises(NoNet):
        append(log, 1)
    log.close()


def test_the_log_of_a_living_process_is_left_to_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    log = Log.create(spool)
    append(log, 1)
    assert Log.take(spool, log.producer) is None
    log.close()
    taken = Log.take(spool, log.producer)
    assert taken is not None and contents(taken) == [1]
    assert Log.take(spool, log.producer) is None
    taken.close()


def test_a_log_whose_counts_are_gone_can_be_taken_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    log = Log.create(spool)
    append(log, 1, 2)
    log.close()
    spool.counts(log.producer).unlink()
    taken = Log.take(spool, log.producer)
    assert taken is not None
    taken.recount()
    assert contents(taken) == [1, 2] and taken.counts.missing == 0
    taken.close()


def test_a_frame_that_was_written_and_not_counted_is_counted_when_the_log_is_taken_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    log = Log.create(spool)
    log.counts.cells[PRODUCED] = 4
    append(log, 1, 2)
    append(log, 3)
    log.counts.cells[KEPT] = 2  # killed in between
    log.close()
    taken = Log.take(spool, log.producer)
    assert taken is not None
    taken.recount()
    assert taken.total == 3 and taken.counts.missing == 1
    taken.close()


@pytest.mark.parametrize("hit", [0, 1, 2])
def test_what_is_damaged_is_counted_wherever_it_is(tmp_path: Path, hit: int) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    log = Log.create(spool)
    starts = []
    for number in range(3):
        starts.append(sum(path.stat().st_size for path in tmp_path.glob(f"*{SUFFIX}")))
        append(log, *range(10 * number, 10 * number + number + 1))
    log.close()
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    data = bytearray(path.read_bytes())
    data[starts[hit] + 20] ^= 1
    path.write_bytes(data)
    taken = Log.take(spool, log.producer)
    assert taken is not None
    taken.recount()
    assert contents(taken) == [n for number in range(3) if number != hit for n in range(10 * number, 11 * number + 1)]
    assert taken.segments[0].damaged == hit + 1
    taken.close()


def test_a_segment_that_cannot_be_read_is_damage_in_the_middle(tmp_path: Path) -> None:
    log = Log.create(Spool(tmp_path, MEGABYTE))
    for number in range(3):
        append(log, 2 * number, 2 * number + 1)
        log.rotate()
    log.segments[1].path.unlink()
    assert contents(log) == [0, 1, 4, 5]
    assert [segment.damaged for segment in log.segments] == [0, 2, 0]
    log.close()


def test_a_segment_that_a_broken_disk_does_not_give_back_is_damage(tmp_path: Path) -> None:
    log = Log.create(Spool(tmp_path, MEGABYTE))
    append(log, 1, 2)
    log.rotate()
    log.segments[0].path.unlink()
    log.segments[0].path.symlink_to("/proc/self/mem")  # its first page gives EIO
    assert contents(log) == [] and log.segments[0].damaged == 2
    log.close()


def test_a_segment_that_cannot_be_read_now_is_no_damage(tmp_path: Path) -> None:
    log = Log.create(Spool(tmp_path, MEGABYTE))
    append(log, 1, 2)
    log.rotate()
    with no_descriptors(), pytest.raises(Unread):
        log.read(log.segments[0])
    assert log.segments[0].damaged == 0
    assert contents(log) == [1, 2] and log.segments[0].damaged == 0
    log.close()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Opening a file fails."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_of_many_processes_one_takes_a_log(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    for number in range(50):
        log = Log.create(spool)
        append(log, number)
        log.close()
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        taken = pool.map(_take_all, [tmp_path] * 2)
    assert sorted(number for part in taken for number in part) == list(range(50))


def _take_all(folder: Path) -> list[int]:
    spool, numbers = Spool(folder, MEGABYTE), []
    for producer in sorted(spool.producers()):
        log = Log.take(spool, producer)
        if log is None:
            continue
        numbers += contents(log)
        for segment in list(log.segments):
            log.remove(segment, 0)
        log.close()
    return numbers
