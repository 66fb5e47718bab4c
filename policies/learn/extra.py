"""The libraries that only training needs, imported when it starts: serving a trained policy takes numpy alone."""

from __future__ import annotations

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


def library(name: str) -> Any:
    """A module by its name; TrainingNotInstalled says how to get it."""
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: LightGBM without libgomp
        raise TrainingNotInstalled(
            f"training a policy needs {name.partition('.')[0]} ({error}): pip install 'distill-router[learn]'"
        ) from error
