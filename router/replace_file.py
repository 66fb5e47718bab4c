"""Writing a file in one step: whoever reads it meanwhile has the old one or the new one, never half of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PRIVATE = 0o600
READABLE = 0o644


def replace_file(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Write the file, or put another one in its place. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.absolute().parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(handle, mode)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
