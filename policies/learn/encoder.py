"""What a text encoder is to training: off by default, and never called by a policy itself.

Whoever serves a policy that was trained with an encoder fetches the vector (an HTTP endpoint, a local model) and puts
it into the query. Without it the mean of the training vectors stands, which says nothing of the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from policies.learn.rows import Floats


class Encoder(Protocol):
    """Texts to vectors."""

    @property
    def name(self) -> str:
        """Model and version: a policy's file names the encoder that it needs."""

    @property
    def dimension(self) -> int:
        """Length of each vector."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Shape (len(texts), dimension)."""


def encoded(encoder: Encoder | None, texts: Sequence[str]) -> Floats:
    """The vectors of all texts, (n, dimension); (n, 0) without an encoder. ValueError on another shape or on NaN."""
    if encoder is None:
        return np.zeros((len(texts), 0))
    vectors = np.asarray(encoder.encode(texts), dtype=np.float64)
    if vectors.shape != (len(texts), encoder.dimension):
        wanted = (len(texts), encoder.dimension)
        raise ValueError(f"encoder '{encoder.name}' gave vectors of shape {vectors.shape}, not {wanted}")
    if not np.isfinite(vectors).all():
        raise ValueError(f"encoder '{encoder.name}' gave vectors with NaN or infinity")
    return vectors
