"""What a format is: rules for what it takes, rows for an example, and how rows become a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol

from router.export.example import Example, Json
from router.export.json_text import dump, parsed_object
from router.export.lint import Rules

Row = Json


class Format(Protocol):
    """`suffix`: how the file's name must end, because its readers go by that. `write` gets at least one row.

    `registration`: what must be said of the file elsewhere for the trainer to find it, by the name of that file in the
    same folder; see `router.export.files`.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    rules: ClassVar[Rules]

    def rows(self, example: Example) -> Iterator[Row]: ...

    def write(self, rows: Sequence[Row], file: IO[bytes]) -> None: ...

    def registration(self, out: Path) -> dict[str, Json]: ...


class JsonLines:
    """One JSON object a line, in UTF-8.

    Rows of a form that was not there before come first. `datasets` takes the schema from the first 10 MB of a file and
    cannot read what it did not see there: https://github.com/huggingface/datasets/blob/main/src/datasets/packaged_modules/json/json.py
    """

    suffix: ClassVar[str] = ".jsonl"

    def write(self, rows: Sequence[Row], file: IO[bytes]) -> None:
        for row in new_forms_first(rows):
            file.write(f"{dump(row)}\n".encode())

    def registration(self, out: Path) -> dict[str, Json]:
        return {}


def new_forms_first(rows: Sequence[Row]) -> list[Row]:
    """The same rows, otherwise in their order; what two rows of one form have are the same keys with the same types."""
    seen: set[frozenset[tuple[str, ...]]] = set()
    first: list[Row] = []
    later: list[Row] = []
    for row in rows:
        form = frozenset(_paths(row, ()))
        (later if form in seen else first).append(row)
        seen.add(form)
    return first + later


def _paths(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _paths(item, (*path, key))
    elif isinstance(value, list) and value:
        for item in value:
            yield from _paths(item, (*path, "[]"))
    else:
        yield (*path, type(value).__name__)


def arguments(text: str) -> Json:
    """A call's arguments as an object; the linter has made sure that they are one."""
    parsed = parsed_object(text)
    assert parsed is not None, text
    return parsed
