"""`datasets.load_dataset` reads every format back as it was written, whatever the order of the rows and their tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]  # no types in the package
import pytest

from router.export.example import Example
from router.export.formats.base import JsonLines
from router.export.formats.registry import FORMATS
from router.export.lint import problem
from tests.router.export.cases import ALL, OTHER_TOOL, PLAIN, example

Rows = list[dict[str, Any]]
Load = Callable[[str, Path], Rows]
PIECE_BYTES = 1 << 16  # of the first piece `datasets` takes the schema; by default it has 10 MB


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def read(kind: str, path: Path) -> Rows:
        pieces = {"chunksize": PIECE_BYTES} if kind == "json" else {}
        cache = str(tmp_path / "cache")
        split = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache, **pieces)
        return [without_nothing(row) for row in split]

    return read


def without_nothing(value: Any) -> Any:
    """Arrow has no missing keys, only nulls."""
    if isinstance(value, dict):
        return {key: without_nothing(item) for key, item in value.items() if item is not None}
    return [without_nothing(item) for item in value] if isinstance(value, list) else value


def rows_of(name: str, examples: list[Example]) -> Rows:
    target = FORMATS[name]
    return [row for one in examples if problem(one, target.rules) is None for row in target.rows(one)]


def by_content(rows: Rows) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_back_as_it_was_written(name: str, load: Load, tmp_path: Path) -> None:
    target = FORMATS[name]
    rows = rows_of(name, [example(record) for record in ALL])
    path = tmp_path / f"data{target.suffix}"
    with path.open("wb") as file:
        target.write(rows, file)
    read = load("parquet" if target.suffix == ".parquet" else "json", path)
    assert by_content(read) == by_content([without_nothing(row) for row in rows])


@pytest.mark.parametrize("name", ["openai-sft", "trl-sft", "axolotl"])
def test_a_tool_that_only_the_last_of_many_rows_has_is_read_too(name: str, load: Load, tmp_path: Path) -> None:
    (plain,), (tools,) = rows_of(name, [example(PLAIN)]), rows_of(name, [example(OTHER_TOOL)])
    rows = [plain] * (3 * PIECE_BYTES // len(json.dumps(plain))) + [tools]
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        JsonLines().write(rows, file)
    read = load("json", path)
    assert len(read) == len(rows)
    assert sum(row == tools for row in read) == 1
