"""Full records as Parquet, for analysis and trainers of one's own: a column a field, what has parts as JSON text.

The columns are those of `router.evidence.records.PairRecord` and `label`, the verdict that counted. Nothing is linted.
Needs the extra `parquet`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

from router.export.example import Example, Json
from router.export.formats.base import Row
from router.export.json_text import dump
from router.export.lint import Rules


class Parquet:
    name: ClassVar[str] = "parquet"
    suffix: ClassVar[str] = ".parquet"
    rules: ClassVar[Rules] = Rules(needs="record")

    def rows(self, example: Example) -> Iterator[Row]:
        yield record_row(example)

    def write(self, rows: Sequence[Row], file: IO[bytes]) -> None:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)

    def registration(self, out: Path) -> dict[str, Json]:
        return {}


def record_row(example: Example) -> Row:
    fields = example.record.model_dump(mode="json")
    return {name: _cell(value) for name, value in fields.items()} | {"label": example.verdict}


def _cell(value: Any) -> Any:
    return dump(value) if isinstance(value, dict | list) else value
