"""Runs a program for a moment, in a fresh folder, with limits: `run`.

The program gets a session and a process group of its own, no environment but PATH (and HOME, TMPDIR and LANG that name
nothing of ours), a time limit after which its group is killed, and limits on CPU time, memory, file size and processes.
This keeps an accident small. It is no security boundary: the program runs as the gateway's user, reads what that user
reads, reaches the network, and a process that leaves the group outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from router.evidence.compare import launcher

MOST_OUTPUT = 256 * 1024  # bytes of standard output that are read; the rest is thrown away
MOST_COMPLAINT = 2_000  # bytes of standard error that are kept
MB = 1024 * 1024


class CannotRun(Exception):
    """The program could not be started; the text says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`rlimits`: by the name of the resource (CPU in seconds, AS and FSIZE in bytes); `processes` on top of those of
    the user that run already."""

    wall_s: float
    rlimits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Finished:
    """`status` None: it was killed at its time limit."""

    status: int | None
    output: bytes
    complaint: str


class Sandbox:
    """Programs side by side are bounded, so that audits do not take the machine from requests."""

    def __init__(self, side_by_side: int = 2) -> None:
        self._places = asyncio.Semaphore(side_by_side)

    async def run(self, argv: tuple[str, ...], given: bytes, files: Mapping[str, str], limits: Limits) -> Finished:
        """`given` on standard input, `files` in the folder that it runs in. Raises CannotRun."""
        path = os.pathsep.join(os.get_exec_path())
        program = _found(argv[0], path)
        async with self._places:
            folder = await asyncio.to_thread(_prepare, files)
            try:
                return await self._run((program, *argv[1:]), given, folder, path, limits)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _run(self, argv: tuple[str, ...], given: bytes, folder: str, path: str, limits: Limits) -> Finished:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launcher.__file__, json.dumps(dict(limits.rlimits)), *argv),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=folder,
                env={"PATH": path, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise CannotRun(f"cannot run '{argv[0]}': {error}") from error
        try:
            async with asyncio.timeout(limits.wall_s):
                output, complaint = await _talk(process, given)
                return Finished(await process.wait(), output, complaint)
        except TimeoutError:
            return Finished(None, b"", "")
        finally:
            await _end(process)


async def _talk(process: asyncio.subprocess.Process, given: bytes) -> tuple[bytes, str]:
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    output, complaint, _ = await asyncio.gather(
        _read(process.stdout, MOST_OUTPUT), _read(process.stderr, MOST_COMPLAINT), _write(process.stdin, given)
    )
    return output, complaint.decode("utf-8", "replace")


async def _write(pipe: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # a program need not read
        pipe.write(data)
        await pipe.drain()
    pipe.close()
    with contextlib.suppress(ConnectionError):
        await pipe.wait_closed()


async def _read(pipe: asyncio.StreamReader, most: int) -> bytes:
    kept = bytearray()
    while piece := await pipe.read(64 * 1024):
        kept += piece[: most - len(kept)]
    return bytes(kept)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of the group: the program, or what it started and did not wait for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _found(program: str, path: str) -> str:
    """Where the program is; a relative path is one from the folder that the gateway runs in. Raises CannotRun."""
    found = shutil.which(program, path=path)
    if found is None:
        raise CannotRun(f"there is no program '{program}' that can be run")
    return str(Path(found).absolute())


def _prepare(files: Mapping[str, str]) -> str:
    folder = tempfile.mkdtemp(prefix="distill-router-")
    for name, text in files.items():
        Path(folder, name).write_text(text, encoding="utf-8", errors="replace")
    return folder
