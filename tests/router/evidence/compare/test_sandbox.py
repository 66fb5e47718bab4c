"""What a program is given, what it may take, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest

from router.evidence.compare.sandbox import MB, MOST_OUTPUT, CannotRun, Finished, Limits, Sandbox

WALL_S = 30


def run(
    program: str, given: bytes = b"", wall_s: float = WALL_S, rlimits: Mapping[str, int] = MappingProxyType({})
) -> Finished:
    argv = (sys.executable, "-c", program)
    return asyncio.run(Sandbox().run(argv, given, {"note.txt": "hello"}, Limits(wall_s, rlimits)))


def test_a_program_reads_its_input_and_files_and_answers() -> None:
    done = run("import sys; print(sys.stdin.read() + open('note.txt').read())", b"in ")
    assert (done.status, done.output) == (0, b"in hello\n")


def test_a_program_has_path_and_nothing_else_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    done = run("import os; print(sorted(os.environ))")
    assert eval(done.output) == ["HOME", "LANG", "PATH", "TMPDIR"]


def test_a_program_leads_its_own_session() -> None:
    assert run("import os; print(os.getsid(0) == os.getpid() == os.getpgrp())").output == b"True\n"


def test_the_folder_is_fresh_and_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = {run("import os; open('x', 'x'); print(os.getcwd())").output for _ in range(2)}
    assert len(seen) == 2 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "rlimits"),
    [
        ("while True: pass", {"CPU": 1}),
        ("x = bytearray(400 * 1024 * 1024)", {"AS": 200 * MB}),
        ("open('big', 'wb').write(bytes(3 * 1024 * 1024))", {"FSIZE": MB}),
    ],
    ids=["cpu", "memory", "file"],
)
def test_a_program_that_takes_too_much_fails(program: str, rlimits: dict[str, int]) -> None:
    assert "while" in program or run(program).status == 0
    assert run(program, rlimits=rlimits).status not in (0, None)


@pytest.mark.skipif(os.geteuid() == 0, reason="the system does not count the processes of root")
def test_a_program_that_starts_too_many_processes_fails() -> None:
    program = "import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        time.sleep(60)"
    assert run(program, rlimits={"processes": 5}).status not in (0, None)


def test_a_program_that_takes_too_long_is_killed_with_all_that_it_started() -> None:
    marker = f"marker-{os.getpid()}"
    program = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', '{marker}'])"
    )
    assert run(program, wall_s=2).status is None
    assert not [each for each in psutil.process_iter(["cmdline"]) if marker in (each.info["cmdline"] or [])]


def test_output_without_end_is_cut() -> None:
    assert len(run(f"print('x' * {MOST_OUTPUT * 4})").output) == MOST_OUTPUT


def test_a_program_that_does_not_read_its_input_is_no_failure() -> None:
    assert run("print('done')", b"x" * 5_000_000) == Finished(0, b"done\n", "")


def test_a_complaint_is_kept() -> None:
    done = run("raise SystemExit('oh no')")
    assert (done.status, done.complaint.strip()) == (1, "oh no")


@pytest.mark.parametrize("program", ["no-such-program-here", "/no/such/program", "/etc"])
def test_a_program_that_is_not_there_is_named(program: str) -> None:
    with pytest.raises(CannotRun, match=program):
        asyncio.run(Sandbox().run((program,), b"", {}, Limits(WALL_S)))


def test_a_program_that_is_cancelled_is_killed() -> None:
    marker = f"cancelled-{os.getpid()}"

    async def cancelled() -> None:
        argv = (sys.executable, "-c", "import time; time.sleep(600)", marker)
        task = asyncio.create_task(Sandbox().run(argv, b"", {}, Limits(600)))
        await asyncio.to_thread(wait_for, marker)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancelled())
    assert not running(marker)


def wait_for(marker: str) -> None:
    while not running(marker):
        time.sleep(0.01)


def running(marker: str) -> bool:
    return any(marker in (each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"]))
