"""The embedded engine as a web application and as a process: `create_app` for one checkpoint, `run` to serve it.

Importing this module imports no numpy: `run` first asks BLAS for one thread, which is read when numpy is imported. The
models' matrices are so small that more threads only wait for each other.
"""

from __future__ import annotations

import os
from pathlib import Path

import uvicorn
from fastapi import FastAPI

DEMO_CHECKPOINTS = Path(__file__).resolve().parent.parent / "demo" / "checkpoints"
DEMO_MODELS = ("teacher", "student")
# Longer than a gateway keeps an idle connection in its pool, so that it never sends into one that is being closed.
_KEEP_ALIVE_S = 75
_DRAIN_S = 5


def create_app(
    checkpoint_dir: Path | str,
    name: str | None = None,
    *,
    max_num_seqs: int = 64,
    max_waiting: int = 1024,
    prefill_tokens_per_step: int = 128,
) -> FastAPI:
    """The application for one checkpoint folder, served as `name` (default: the folder's name).

    Raises CheckpointError with the file and the fix for a folder that cannot be served.
    """
    from serving.embedded.app import build_app
    from serving.embedded.engine import load_engine
    from serving.embedded.scheduler import Limits

    directory = Path(checkpoint_dir).resolve()
    limits = Limits(max_num_seqs=max_num_seqs, max_waiting=max_waiting, prefill_tokens_per_step=prefill_tokens_per_step)
    return build_app(load_engine(directory, limits), name or directory.name)


def run(
    model: str, host: str = "127.0.0.1", port: int = 8000, *, max_num_seqs: int = 64, log_level: str = "info"
) -> None:
    """Serve `teacher`, `student` or a checkpoint folder until SIGINT or SIGTERM.

    To be called before numpy is imported, for the one thread. Raises CheckpointError.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    app = create_app(resolve_model(model), model if model in DEMO_MODELS else None, max_num_seqs=max_num_seqs)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level=log_level,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S,
    )


def resolve_model(model: str) -> Path:
    """The folder of a demo model, or the folder itself."""
    return DEMO_CHECKPOINTS / model if model in DEMO_MODELS else Path(model)
