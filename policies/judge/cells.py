"""CSV and Parquet files as lines of cells, read column by column name and one row at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from policies.judge.rows import TableError

LONGEST_CELL = 1 << 27
Line = tuple[int, Mapping[str, Any]]


class Cells(Protocol):
    """A table whose columns have names."""

    @property
    def columns(self) -> Sequence[str]:
        """In their order."""

    def read(self, columns: Sequence[str]) -> Iterator[Line]:
        """The line on which a row begins (in a Parquet file the row's number) and its cells. Raises TableError."""


class CsvCells:
    """A CSV file in UTF-8, its first line the names. Cells are texts."""

    def __init__(self, path: Path) -> None:
        """Raises TableError for a file without names, and OSError."""
        self._path = path
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            self.columns: Sequence[str] = next(self._lines(csv.reader(file)), (0, []))[1]
        if not self.columns:
            raise TableError("no header: the first line must name the columns")
        twice = next((name for name in self.columns if self.columns.count(name) > 1), None)
        if twice is not None:
            raise TableError(f"the column '{twice}' is there twice")

    def read(self, columns: Sequence[str]) -> Iterator[Line]:
        places = [(name, self.columns.index(name)) for name in columns]
        with self._path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = self._lines(csv.reader(file, strict=True))
            next(lines)
            for line, cells in lines:
                if not cells:
                    continue
                if len(cells) != len(self.columns):
                    raise TableError(f"line {line}: {len(cells)} cells under {len(self.columns)} column names")
                yield line, {name: cells[place] for name, place in places}

    def _lines(self, reader: Any) -> Iterator[tuple[int, list[str]]]:
        """A cell may span lines, so a row begins after the line on which the one before ended."""
        csv.field_size_limit(LONGEST_CELL)
        line = 1
        try:
            for cells in reader:
                yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise TableError(f"line {line}: not CSV: {error}") from None


class ParquetCells:
    """A Parquet file; only the columns asked for are read."""

    def __init__(self, path: Path) -> None:
        """Raises TableError where pyarrow is not installed or the file is not Parquet, and OSError."""
        try:
            import pyarrow.parquet
        except ImportError:
            raise TableError("Parquet needs pyarrow: pip install 'distill-router[parquet]'") from None
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except pyarrow.ArrowException as error:
            raise TableError(f"not Parquet: {error}") from None
        self.columns: Sequence[str] = self._file.schema_arrow.names

    def read(self, columns: Sequence[str]) -> Iterator[Line]:
        number = 0
        for batch in self._file.iter_batches(batch_size=1024, columns=list(columns)):
            for cells in batch.to_pylist():
                number += 1
                yield number, cells
