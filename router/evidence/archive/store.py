"""Where an archive's files lie: a folder, or what else `fsspec` reaches by a URL. A file is there whole or not at all.

On a local disk a file is written under `.writing/`, synced, and renamed; an object store shows a put when it is whole.
What is in the files is not known here.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from router.errors import ConfigError
from router.evidence.erasure import FOLDER, Tombstones, from_names, tombstone_name, tombstone_text

PRIVATE = 0o700  # prompts and answers of every tenant
WRITING = ".writing"
END_OF_TIME_S = 253_402_300_800.0  # the year 10000
_DAY = re.compile(r"day=(\d{4}-\d\d-\d\d)")
_PART = re.compile(r"part-(?P<first>\d{13,16})-(?P<last>\d{13,16})-[0-9a-f]{16}\.parquet")


def nothing() -> None:
    """The usual `before` of `Store.put`."""


@dataclass(frozen=True, slots=True)
class Part:
    """A Parquet file; `first_ms` and `last_ms` (Unix milliseconds) enclose the times of its records."""

    path: str
    first_ms: int
    last_ms: int

    def spans(self, times_s: Sequence[float]) -> bool:
        """Whether it may hold a record of one of these times (Unix seconds, ascending)."""
        at = bisect_left(times_s, self.first_ms / 1000)
        return at < len(times_s) and times_s[at] <= self.last_ms / 1000


class Store:
    """The files below one URL; paths are relative to it. Blocking."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError for a URL that nothing here can reach."""
        self.url = url
        try:
            self._fs, self._root = cast(tuple[Any, str], url_to_fs(url))
        except ImportError as error:
            extra = "s3" if url.startswith("s3") else "archive"
            raise ConfigError(
                f"archive {url}: {error}; s3:// comes with the extra `s3`: pip install 'distill-router[{extra}]'"
            ) from error
        except ValueError as error:
            raise ConfigError(f"archive {url}: {error}; expected a folder or s3://BUCKET/PREFIX") from error
        self._local = isinstance(self._fs, LocalFileSystem)

    @property
    def name(self) -> str:
        """The same for every way to write the same place."""
        return self._root if self._local else str(self._fs.unstrip_protocol(self._root))

    def parts(self, stream: str, since: float = 0.0, until: float = float("inf")) -> list[Part]:
        """The files that may hold records of that time (Unix seconds), by their first record."""
        found = [
            Part(f"{stream}/{folder}/{name}", int(match["first"]), int(match["last"]))
            for folder in self._days(stream, since, until)
            for name in self.names(f"{stream}/{folder}")
            if (match := _PART.fullmatch(name)) and int(match["last"]) >= since * 1000
        ]
        return sorted(
            (part for part in found if part.first_ms <= until * 1000), key=lambda part: (part.first_ms, part.path)
        )

    def exists(self) -> bool:
        """Whether anything was ever archived here."""
        return bool(self.names(""))

    def names(self, folder: str) -> list[str]:
        """The names in a folder; empty where there is none."""
        with self._told():
            self._fs.invalidate_cache()
            try:
                return sorted(Path(path).name for path in self._fs.ls(self._full(folder), detail=False))
            except FileNotFoundError:
                return []

    def open(self, path: str) -> IO[bytes]:
        """Raises FileNotFoundError."""
        with self._told(FileNotFoundError):
            return cast(IO[bytes], self._fs.open(self._full(path), "rb"))

    def put(self, path: str, data: bytes, before: Callable[[], None] = nothing) -> None:
        """Write or replace a file. `before` runs when it is ready but not to be seen; if it raises, there is none."""
        if self._local:
            self._put_local(Path(self._full(path)), data, before)
            return
        before()
        with self._told():
            self._fs.pipe_file(self._full(path), data)

    def remove(self, path: str) -> None:
        """Nothing to do where it is gone already."""
        with self._told(), suppress(FileNotFoundError):
            self._fs.rm_file(self._full(path))

    def tombstones(self) -> Tombstones:
        return from_names(self.names(FOLDER))

    def bury(self, tombstones: Tombstones) -> None:
        """Write those that are not here yet."""
        known = self.tombstones().times
        for digest, at in tombstones.times.items():
            if known.get(digest, 0.0) < at:
                self.put(f"{FOLDER}/{tombstone_name(digest, at)}", tombstone_text(at))

    def sweep(self) -> int:
        """Remove what killed writers left half done; how many files that were."""
        if not self._local:
            return 0
        return sum(_abandoned(path) for path in (Path(self._root) / WRITING).glob("*"))

    def _put_local(self, target: Path, data: bytes, before: Callable[[], None]) -> None:
        with self._told():
            for folder in (Path(self._root), Path(self._root) / WRITING, target.parent):
                folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            fresh, file = _fresh(Path(self._root) / WRITING, target.name)
        with file:
            try:
                with self._told():
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                before()
                with self._told():
                    fresh.replace(target)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise
        with self._told():
            for folder in (target.parent, *target.parent.parents):
                _sync(folder)
                if folder == Path(self._root):
                    return

    @contextmanager
    def _told(self, *passing: type[Exception]) -> Iterator[None]:
        """What a file system says becomes a ConfigError, but for what the caller deals with."""
        try:
            yield
        except passing:
            raise
        except Exception as error:  # each library behind fsspec has a tree of its own
            raise ConfigError(f"archive {self.url}: {error or type(error).__name__}") from error

    def _days(self, stream: str, since: float, until: float) -> Iterator[str]:
        """A day's folder holds records of that UTC day only."""
        for name in self.names(stream):
            if match := _DAY.fullmatch(name):
                start = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
                if (start + timedelta(days=1)).timestamp() > since and start.timestamp() <= until:
                    yield name

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}" if path else self._root


def new_part(stream: str, day: str, first_s: float, last_s: float) -> Part:
    """A new name for records of one UTC day (YYYY-MM-DD), from the first one's time to the last one's."""
    first, last = max(0, int(first_s * 1000) - 1), int(last_s * 1000) + 1  # a millisecond wider than any rounding
    name = f"part-{first:013d}-{last:013d}-{secrets.token_hex(8)}.parquet"
    return Part(f"{stream}/day={day}/{name}", first, last)


def day_of(at: float) -> str:
    """The UTC day of a Unix time. Raises ValueError for one before 1970 or after 9999."""
    if not 0 <= at < END_OF_TIME_S:
        raise ValueError(f"{at} is no time, in Unix seconds")
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _fresh(folder: Path, name: str) -> tuple[Path, IO[bytes]]:
    """A new file that is locked, so that nobody sweeps it away; one that was, before its lock, is tried again."""
    while True:
        path = folder / f"{name}.{secrets.token_hex(4)}"
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()


def _abandoned(path: Path) -> bool:
    """Remove a file that no living process writes: a writer holds its lock until it is renamed."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
