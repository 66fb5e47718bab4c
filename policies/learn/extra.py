"""The libraries that only training needs, imported when it starts: serving a trained policy takes numpy alone."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any


class TrainingNotInstalled(ImportError):
    """A library of the extra `learn` is missing."""


def scipy_optimize() -> Any:
    """`scipy.optimize`."""
    return library("scipy.optimize")


def scipy_sparse() -> Any:
    """`scipy.sparse`."""
    return library("scipy.sparse")


def lightgbm() -> Any:
    """`lightgbm`."""
    return library("lightgbm")


def single_threaded() -> AbstractContextManager[Any]:
    """Keeps linear algebra on one core while it is open.

    The products here are small: several threads would wait for each other on a busy machine, take cores from a gateway
    beside them, and add up in another order, so that the same examples would give another version.
    """
    scipy_optimize()  # the limit reaches only libraries that are loaded
    limits: AbstractContextManager[Any] = library("threadpoolctl").threadpool_limits(limits=1)
    return limits


def library(name: str) -> Any:
    """A module by its name; TrainingNotInstalled says how to get it."""
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: LightGBM without libgomp
        raise TrainingNotInstalled(
            f"training a policy needs {name.partition('.')[0]} ({error}): pip install 'distill-router[learn]'"
        ) from error
