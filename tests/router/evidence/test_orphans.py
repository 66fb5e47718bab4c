"""The logs of ended processes: one takes them, no lock is kept in vain, and strangers' stay."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from router.evidence.erasing import InSpool
from router.evidence.erasure import Subject, Tombstones
from router.evidence.orphans import Orphans
from router.evidence.segment import Frame
from router.evidence.spool import ERASING, SUFFIX, Log, Spool
from router.evidence.streams import DISAGREEMENTS
from router.record.metrics import Metrics
from tests.router.evidence.test_spool import append, contents, in_spool, unreadable
from tests.support.pairs import pair

MEGABYTE = 1024 * 1024


def orphans(log: Log) -> Orphans:
    return Orphans(log.spool, log.producer, Metrics())


def ended(folder: Path, *numbers: int, destination: str = "") -> str:
    """A process that has left a segment for each number; its producer."""
    log = Log.create(Spool(folder, MEGABYTE, destination))
    for number in numbers:
        append(log, number)
        log.rotate()
    log.close()
    return log.producer


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def test_the_oldest_segment_that_another_has_dropped_meanwhile_is_passed_over(tmp_path: Path) -> None:
    producer = ended(tmp_path, 1, 2, 3)
    quick = Log.create(Spool(tmp_path, MEGABYTE))

    class Late(Spool):
        """Its process does not get on between looking and taking."""

        def oldest(self) -> list[Path]:
            found = super().oldest()
            assert orphans(quick).make_room(quick) == 1
            return found

    late = Log.create(Late(tmp_path, MEGABYTE))
    assert orphans(late).make_room(late) == 1
    assert in_spool(tmp_path) == [3]
    taken = Log.take(quick.spool, producer)
    assert taken is not None
    for log in (taken, quick, late):
        log.close()


def test_a_log_that_cannot_be_taken_now_is_free_for_the_next_try(tmp_path: Path) -> None:
    producer = ended(tmp_path, 1)
    own = Log.create(Spool(tmp_path, MEGABYTE))
    in_the_way = tmp_path / f"{producer}-0000000002-1{SUFFIX}"
    in_the_way.symlink_to(in_the_way)  # cannot be looked at
    finder = orphans(own)
    with pytest.raises(OSError, match="symbolic links"):
        Log.take(own.spool, producer)
    assert finder.find(set()) == []
    in_the_way.unlink()
    (found,) = finder.find(set())
    assert contents(found) == [1]
    found.close()
    own.close()


def test_a_log_that_cannot_be_read_now_is_found_later_and_whole(tmp_path: Path) -> None:
    ended(tmp_path, 1, 2)
    own = Log.create(Spool(tmp_path, MEGABYTE))
    finder = orphans(own)
    with unreadable(segments(tmp_path)[-1]):
        assert finder.find(set()) == []
    (found,) = finder.find(set())
    assert contents(found) == [1, 2] and not any(segment.damaged for segment in found.segments)
    found.close()
    own.close()


def test_where_a_log_cannot_be_read_another_makes_room(tmp_path: Path) -> None:
    ended(tmp_path, 1)
    ended(tmp_path, 2)
    own = Log.create(Spool(tmp_path, MEGABYTE))
    with unreadable(segments(tmp_path)[0]):
        assert orphans(own).make_room(own) == 1
    assert in_spool(tmp_path) == [1]
    own.close()


def test_the_logs_of_another_destination_are_neither_taken_nor_dropped_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = ended(tmp_path, 1, destination="a")
    ended(tmp_path, 2, destination="b")
    own = Log.create(Spool(tmp_path, MEGABYTE, "b"))
    finder = orphans(own)
    (found,) = finder.find(set())
    assert contents(found) == [2]
    found.close()
    assert finder.make_room(own) == 1 and finder.make_room(own) is None
    finder.find(set())
    assert in_spool(tmp_path) == [1]
    (told,) = [record.getMessage() for record in caplog.records if "spool_dir" in record.getMessage()]
    assert str(tmp_path) in told and foreign[-8:] in told
    own.close()


def test_a_folder_of_ones_own_is_nothing_to_tell_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ended(tmp_path, 1, destination="a")
    own = Log.create(Spool(tmp_path, MEGABYTE, "a"))
    for found in orphans(own).find(set()):
        found.close()
    own.close()
    assert not caplog.records


@pytest.mark.parametrize("counts", [True, False])
def test_what_an_erasure_that_was_killed_left_goes_with_the_log(tmp_path: Path, counts: bool) -> None:
    """Also where nothing but that is left of the process."""
    producer = ended(tmp_path, 1)
    (path,) = segments(tmp_path)
    path.rename(path.with_suffix(ERASING))
    own = Log.create(Spool(tmp_path, MEGABYTE))
    if not counts:
        own.spool.counts(producer).unlink()
    for found in orphans(own).find(set()):
        found.close()
    assert not list(tmp_path.glob(f"*{ERASING}"))
    own.close()


def test_only_its_user_can_read_what_is_in_a_folder_that_all_can_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    record = pair(1, harm=True).model_copy(update={"key": "app"})
    log = Log.create(Spool(tmp_path, MEGABYTE))
    append(log, 1)
    assert modes(tmp_path) == {0o600}
    log.rotate()
    log.append([Frame(0, 2, 2, 0.0, {DISAGREEMENTS: [record.model_dump_json().encode()]})])
    log.close()
    subject = Subject("key", "app")
    assert InSpool(tmp_path, MEGABYTE).erase_pairs(Tombstones({subject.digest: record.time})) == 1
    assert stat.S_IMODE(segments(tmp_path)[-1].stat().st_mode) == 0o600


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
