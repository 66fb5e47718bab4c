"""Files appear whole or not at all, and never in the place of another."""

from __future__ import annotations

import json
import stat
from hashlib import sha256
from pathlib import Path
from typing import IO

import pytest

from router.errors import ConfigError
from router.export.files import manifest_path, registered, replace, require_free, write_manifest, write_new


def fill(file: IO[bytes]) -> None:
    file.write(b"row\n")


def fail(file: IO[bytes]) -> None:
    file.write(b"half a row")
    raise OSError(28, "No space left on device")


def test_a_new_file_is_told_with_its_size_and_hash_and_is_private(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    told = write_new(out, fill)
    assert told == {"name": "a.jsonl", "bytes": 4, "sha256": sha256(b"row\n").hexdigest()}
    assert out.read_bytes() == b"row\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    require_free(out)
    out.write_text("theirs")
    with pytest.raises(ConfigError, match="exists"):
        write_new(out, fill)
    assert out.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [out]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No space left"):
        write_new(tmp_path / "a.jsonl", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_its_manifest_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    write_new(out, fill)
    manifest_path(out).write_text("theirs")
    with pytest.raises(ConfigError, match="exists"):
        write_manifest(out, {"a": 1})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize("taken", ["a.jsonl", "a.jsonl.manifest.json"])
def test_what_is_in_the_way_is_told_before_any_work(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("theirs")
    with pytest.raises(ConfigError, match="exists; nothing is overwritten"):
        require_free(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match="there is no folder"):
        require_free(tmp_path / "nowhere" / "a.jsonl")


def test_an_entry_joins_those_of_a_list_and_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    replace(path, registered(path, {"one": {"file_name": "one.jsonl"}}))
    replace(path, registered(path, {"two": {"file_name": "two.jsonl"}}))
    assert list(json.loads(path.read_text())) == ["one", "two"]
    with pytest.raises(ConfigError, match="has an entry 'two' already"):
        registered(path, {"two": {}})
    path.write_text("[]")
    with pytest.raises(ConfigError, match="no JSON object"):
        registered(path, {"three": {}})
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        registered(path, {"three": {}})
