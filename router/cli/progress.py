"""The progress bar of commands that train: on standard error, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

Tell = Callable[[str, float], None]


@contextmanager
def progress_bar(first: str) -> Iterator[Tell]:
    """What it gives takes the name of the stage and the share of the whole that is done; `first` is the first stage."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(first, total=1.0)
        yield lambda stage, share: shown.update(task, description=stage, completed=share)
