"""Files of JSON lines that are named on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from router.errors import ConfigError


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, with their numbers from 1 on. Raises ConfigError for what cannot be read."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def first_line(path: Path) -> bytes:
    """The first of them; b'' without one, also where the file cannot be read: whoever reads it says why."""
    try:
        return next((line for _, line in numbered_lines(path)), b"")
    except ConfigError:
        return b""
