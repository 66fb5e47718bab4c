"""A trained policy as one file: safetensors, with everything that is no tensor as JSON in its metadata. No pickle.

The version is a digest of the content. Which class reads a file is written in it (`kind`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from policies.gate.answer import StudentAnswer
from policies.learn.trained import Trained
from policies.query import Query

FORMAT = 1
_ENDLESS = re.compile(r"trees\..*\.limit|scaling\.deviation")  # tensors in which infinity has a meaning
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

    def check(self, **shapes: tuple[int, ...]) -> None:
        """ValueError for a tensor of another shape, KeyError for one that is missing."""
        for name, shape in shapes.items():
            if self.tensors[name].shape != shape:
                raise ValueError(f"'{name}' has shape {self.tensors[name].shape}, not {shape}")


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
        """The one kept in a file's tensors, if there is one. ValueError where it is none."""
        if "calibration.loss" not in tensors:
            return None
        names = [f"calibration.{name}" for name in ("loss", "novelty", "harm", "weight")]
        parts = [tensors[name].astype(np.float64) for name in names]
        if {part.shape for part in parts} != {(parts[0].size,)}:
            raise ValueError(f"the shapes of {', '.join(names)} differ")
        if not (all(((part >= 0) & (part <= 1)).all() for part in parts[:3]) and (parts[3] > 0).all()):
            raise ValueError(f"{', '.join(names[:3])} must lie in [0, 1], {names[3]} above 0")
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
    _check_numbers(content)
    try:
        trained = build(content)
        score = trained.score(Query(last="a b", whole="a b"), StudentAnswer("a"))
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"the trained policy lacks a part or has a wrong one: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"the trained policy cannot be used: {error}") from error
    if not (0 <= score.loss <= 1 and 0 <= score.novelty <= 1):
        raise ValueError(f"the trained policy gives {score}, which is outside [0, 1]")
    return trained


def _check_numbers(content: Content) -> None:
    """ValueError for NaN, and for infinity where it means nothing."""
    for name, array in content.tensors.items():
        wrong = np.isnan(array) if _ENDLESS.fullmatch(name) else ~np.isfinite(array)
        if wrong.any():
            raise ValueError(f"the trained policy is damaged: '{name}' holds {array[wrong][0]}")


def read(data: bytes) -> Content:
    """The content of a file; its digest is verified. ValueError naming what is wrong with it."""
    metadata = _metadata(data)
    if int(metadata["format"]) > FORMAT:
        raise ValueError(
            f"the trained policy has format {metadata['format']}, this version reads {FORMAT}: update distill-router"
        )
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"the trained policy is truncated or damaged: {error}") from error
    try:
        described = json.loads(metadata["policy"])
        content = Content(described["kind"], tensors, described["settings"], described["report"])
        written = described["version"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the trained policy is damaged: its description does not read ({error!r})") from error
    parts = (content.kind, str), (content.settings, dict), (content.report, dict)
    if not all(isinstance(part, kind) for part, kind in parts):
        raise ValueError("the trained policy is damaged: its description has parts of another type")
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
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"the file is no trained policy: its header is no JSON object ({error})") from error
    if not isinstance(metadata, dict) or metadata.get("what") != _MARK:
        raise ValueError("the file is no trained policy of distill-router")
    if not re.fullmatch("[0-9]{1,9}", str(metadata.get("format"))):
        raise ValueError("the trained policy is damaged: its format is no number")
    return metadata
