"""Files that appear whole or not at all, and never in the place of another."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from router.errors import ConfigError
from router.replace_file import PRIVATE, replace_file


def manifest_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.manifest.json")


def require_free(out: Path) -> None:
    """Raises ConfigError where a file would be in the way, before any work is done."""
    for path in (out, manifest_path(out)):
        if path.exists():
            raise ConfigError(f"--out {path}: exists; nothing is overwritten: choose another name, or remove it")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")


def write_new(path: Path, write: Callable[[IO[bytes]], None]) -> dict[str, Any]:
    """Name, size and hash of the file that `write` fills. Raises ConfigError where it exists or the disk refuses."""
    try:
        with _beside(path) as temporary:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            data = _digest(temporary)
            os.link(temporary, path)  # unlike a rename it fails where the name is taken
    except OSError as error:
        raise ConfigError(f"--out {path}: {error.strerror or error}") from error
    return {"name": path.name, **data}


def write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Beside `out`, which is removed again where that fails: a file without its manifest says nothing."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    try:
        write_new(manifest_path(out), lambda file: _write_text(file, text))
    except ConfigError:
        out.unlink(missing_ok=True)
        raise


def registered(path: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """What a list of data sets holds with `entry` in it. Raises ConfigError where it cannot be read or has the name."""
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(known, dict):
        raise ConfigError(f"{path}: is no JSON object; choose a folder of its own for --out")
    taken = [name for name in entry if name in known]
    if taken:
        raise ConfigError(f"{path}: has an entry '{taken[0]}' already; choose another name for --out")
    return known | entry


def replace(path: Path, content: dict[str, Any]) -> None:
    try:
        replace_file(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name for a file in the same folder, which is gone afterwards."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        temporary.chmod(PRIVATE)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write_text(file: IO[bytes], text: str) -> None:
    file.write(text.encode("utf-8", "backslashreplace"))


def _digest(path: Path) -> dict[str, Any]:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
