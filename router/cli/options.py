"""What the commands have in common: options, and how a bad configuration is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", envvar="DISTILL_ROUTER_CONFIG", help="The configuration file (YAML).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BAD_CONFIG = 2


def bad_config(path: Path, error: Exception) -> typer.Exit:
    """Print the problems, a line each; raise what it returns."""
    for line in str(error).splitlines():
        typer.echo(f"{path}: {line}", err=True)
    return typer.Exit(BAD_CONFIG)
