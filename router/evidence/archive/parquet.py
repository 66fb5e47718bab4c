"""One Parquet file of an archive: written whole, and read whole or in columns."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow
import pyarrow.parquet

from router.errors import ConfigError
from router.evidence.archive.store import Part, Store


def encoded(table: pyarrow.Table) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def columns_of(store: Store, part: Part, columns: Sequence[str] | None = None) -> pyarrow.Table | None:
    """None: the file was removed meanwhile. Raises ConfigError where it cannot be read."""
    try:
        with store.open(part.path) as file, pyarrow.parquet.ParquetFile(file) as parquet:
            return parquet.read(columns=columns and list(columns))
    except FileNotFoundError:
        return None
    except (pyarrow.ArrowException, OSError) as error:
        raise unreadable(store, part, error) from error


def unreadable(store: Store, part: Part, error: Exception) -> ConfigError:
    return ConfigError(f"archive {store.url}: {part.path} cannot be read: {error}")
