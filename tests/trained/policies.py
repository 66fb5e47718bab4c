"""Trained policies that cost no training: their file is `KIND VERSION`."""

from __future__ import annotations

from router.trained.record import VersionRecord
from tests.support.policy_parts import Estimator


def loads(data: bytes) -> Estimator:
    """Raises ValueError for anything but `KIND VERSION`."""
    kind, _, version = data.decode().partition(" ")
    if not version:
        raise ValueError("it is no trained policy")
    return Estimator(kind=kind, version=version)


def record(version: str = "00000001", kind: str = "difficulty") -> VersionRecord:
    return VersionRecord(kind=kind, version=version, created=1_700_000_000.0, origin="train")
