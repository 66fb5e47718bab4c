"""A trained policy as one file: safetensors, with everything that is no tensor as JSON in its metadata. No pickle.

The version is a digest of the content. Which class reads a file is written in it (`kind`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from policies.learn.trained import Trained

FORMAT = 1
_MARK = "distill-router policy"
LOADERS = {
    "difficulty": "policies.difficulty.model:from_content",
    "cascade": "policies.gate.model:from_content",
}


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds: named arrays, JSON `settings` that scoring needs, and the `report` of the training."""

    kind: str
    tensors: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any]
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Eight hex digits over the kind, the tensors and the settings; the report decides nothing."""
        digest = hashlib.sha256(json.dumps([FORMAT, self.kind, self.settings], sort_keys=True).encode())
        for name in sorted(self.tensors):
            array = np.ascontiguousarray(self.tensors[name])
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Out-of-sample scores of the training examples, what harm they had, and their weights; each (n,).

    A certified threshold may start from it. It has served for choosing among settings, so it is not untouched data.
    """

    loss: NDArray[np.float64]
    novelty: NDArray[np.float64]
    harm: NDArray[np.float64]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> CalibrationSet | None:
        """The one kept in a file's tensors, if there is one."""
        if "calibration.loss" not in tensors:
            return None
        parts = (tensors[f"calibration.{name}"].astype(np.float64) for name in ("loss", "novelty", "harm", "weight"))
        return cls(*parts)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As tensors of a file."""
        named = {"loss": self.loss, "novelty": self.novelty, "harm": self.harm, "weight": self.weight}
        return {f"calibration.{name}": values.astype(np.float32) for name, values in named.items()}


def dumps(trained: Trained) -> bytes:
    """The file of a trained policy. TypeError when it cannot say what it consists of (`content()`)."""
    content = getattr(trained, "content", None)
    if content is None:
        raise TypeError(f"{type(trained).__name__} cannot be written to a file: it has no content()")
    return write(content())


def write(content: Content) -> bytes:
    """The bytes of a file."""
    tensors = {name: np.ascontiguousarray(array) for name, array in content.tensors.items()}
    described = {
        "kind": content.kind,
        "version": content.version,
        "settings": content.settings,
        "report": content.report,
    }
    metadata = {"what": _MARK, "format": str(FORMAT), "policy": json.dumps(described, allow_nan=False)}
    return bytes(save(tensors, metadata))


def loads(data: bytes) -> Trained:
    """The trained policy in a file. ValueError naming what is wrong with it."""
    content = read(data)
    loader = LOADERS.get(content.kind)
    if loader is None:
        raise ValueError(f"unknown kind of trained policy '{content.kind}'; known: {', '.join(sorted(LOADERS))}")
    module, _, name = loader.partition(":")
    build: Callable[[Content], Trained] = getattr(import_module(module), name)
    try:
        return build(content)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"the trained policy lacks a part or has a wrong one: {error!r}") from error


def read(data: bytes) -> Content:
    """The content of a file; its digest is verified. ValueError naming what is wrong with it."""
    metadata = _metadata(data)
    if int(metadata["format"]) > FORMAT:
        raise ValueError(
            f"the trained policy has format {metadata['format']}, this version reads {FORMAT}: update distill-router"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"the trained policy is truncated or damaged: {error}") from error
    try:
        described = json.loads(metadata["policy"])
        content = Content(described["kind"], tensors, described["settings"], described["report"])
        written = described["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the trained policy is damaged: its description does not read ({error!r})") from error
    if content.version != written:
        raise ValueError(f"the trained policy is damaged: its digest is {content.version}, not {written}")
    return content


def _metadata(data: bytes) -> dict[str, str]:
    """The header's metadata, read by hand, because safetensors gives it only for files by path."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ValueError("the file is no trained policy, or it is truncated")
    try:
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    except (ValueError, AttributeError) as error:
        raise ValueError(f"the file is no trained policy: its header is no JSON object ({error})") from error
    if metadata.get("what") != _MARK or not metadata.get("format", "").isdigit():
        raise ValueError("the file is no trained policy of distill-router")
    return dict(metadata)
