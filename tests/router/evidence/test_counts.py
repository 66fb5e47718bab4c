"""The counts of a process outlive it, and tell the living from the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from router.evidence.counts import CRASHED, DROPPED, KEPT, PRODUCED, Counts, read_totals
from tests.router.evidence.test_spool import file_size_limit

KILLED = """
import os, signal, sys
from pathlib import Path
from router.evidence.counts import DROPPED, KEPT, PRODUCED, Counts
cells = Counts.create(Path(sys.argv[1])).cells
cells[PRODUCED], cells[DROPPED], cells[KEPT] = 10, 2, 5
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_living_process_keeps_its_file_and_a_closed_one_gives_it_up(tmp_path: Path) -> None:
    path = tmp_path / "a.counts"
    own = Counts.create(path)
    assert Counts.take(path) is None
    own.close()
    taken = Counts.take(path)
    assert taken is not None and Counts.take(path) is None
    taken.close()


def test_what_a_killed_process_had_accepted_and_not_kept_is_its_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.counts"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    taken = Counts.take(path)
    assert taken is not None
    assert taken.settle() == 3 and taken.cells[CRASHED] == 3
    assert read_totals(tmp_path).crashed == 3 and read_totals(tmp_path).produced == 10
    taken.close()


def test_a_batch_without_the_log_counts_once_however_often_it_is_said_to_have_arrived(tmp_path: Path) -> None:
    counts = Counts.create(tmp_path / "a.counts")
    counts.cells[PRODUCED] = 30
    counts.direct(shard=3, number=7, count=10)
    assert counts.missing == 30
    counts.arrived()
    counts.arrived()
    counts.direct(shard=3, number=8, count=20)
    assert counts.missing == 20
    counts.close()


def test_a_folder_that_takes_no_file_costs_the_net_and_not_the_counting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    counts = Counts.create(tmp_path / "file" / "a.counts")
    counts.cells[DROPPED] += 1
    assert not counts.locked and counts.cells[DROPPED] == 1
    counts.close()


def test_a_full_disk_costs_the_net_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with file_size_limit(0):
        counts = Counts.create(tmp_path / "a.counts")
    assert not counts.locked and not list(tmp_path.iterdir())
    counts.close()


def test_the_totals_of_a_folder_are_the_sums_over_its_processes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        counts = Counts.create(tmp_path / f"{name}.counts")
        counts.cells[PRODUCED], counts.cells[KEPT] = 10, 9
        counts.close()
    (tmp_path / "c.counts").write_bytes(os.urandom(7))  # a process was killed as it made it
    assert (read_totals(tmp_path).produced, read_totals(tmp_path).taken) == (20, 18)
