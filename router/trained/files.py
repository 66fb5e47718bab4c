"""A trained policy's file on disk."""

from __future__ import annotations

from pathlib import Path

from policies.learn import artifact
from policies.learn.trained import FILE, Trained
from router.errors import ConfigError
from router.replace_file import READABLE, replace_file


def path_of(name: str) -> Path | None:
    """The file that a slot of this name follows (`file:KIND:PATH`); None for a name in the store."""
    _, _, path = name.removeprefix(FILE).partition(":")
    return Path(path) if name.startswith(FILE) and path else None


def read_trained(path: Path) -> Trained:
    """Raises ConfigError for what cannot be read or is no trained policy."""
    try:
        return artifact.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def require_free(path: Path) -> None:
    """Raises ConfigError where a trained policy cannot be written, or would replace something else."""
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}")
    if not path.exists():
        return
    try:
        artifact.read(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"--out {path}: {error.strerror or error}") from error
    except ValueError:
        raise ConfigError(f"--out {path}: exists and is no trained policy; choose another name, or remove it") from None


def write_trained(path: Path, data: bytes) -> None:
    """In one step, so that a gateway that follows the file never reads half of it. Raises ConfigError."""
    try:
        replace_file(path, data, READABLE)
    except OSError as error:
        raise ConfigError(f"--out {path}: {error.strerror or error}") from error
