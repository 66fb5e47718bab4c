"""Texts as vectors: an OpenAI-compatible `/v1/embeddings`, or a local ONNX file. Plug-ins, off by default. Blocking.

What they cost (a round trip, or about 20 ms of a processor) is paid for every request that is decided by them; the
features that need none are hashed words.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np

from policies.bounds import Floats
from policies.learn.encoder import Encoder
from policies.learn.example import Example
from policies.query import Vector
from router.errors import ConfigError
from router.settings import Settings
from router.trained.settings import EmbeddingsSettings, EncoderSettings, OnnxSettings

BATCH = 64
CALL_S = 30.0  # for a batch; a decision waits for its one text as long as its `timeout_s` says
SHOWN_BYTES = 200


def encoder_of(settings: Settings, route: str) -> Encoder | None:
    """The encoder of a route; None where it has none. Raises ConfigError."""
    configured = settings.config.routes.get(route)
    if configured is None or configured.encoder is None:
        return None
    try:
        return encoder(configured.encoder, settings)
    except ConfigError as error:
        raise ConfigError(f"routes.{route}.{error}") from error


def require_encoders(settings: Settings) -> None:
    """Raises ConfigError for the first one that cannot be used. Reads their files."""
    for route in settings.config.routes:
        encoder_of(settings, route)


def with_vectors(examples: Sequence[Example], encoder: Encoder | None) -> list[Example]:
    """The examples as an estimator sees them that was trained with the encoder. Raises EncodingFailed."""
    if encoder is None:
        return list(examples)
    vectors = encoder.encode([example.query.encoded for example in examples]).tolist()
    return [
        replace(example, query=replace(example.query, vector=Vector(encoder.name, tuple(vector))))
        for example, vector in zip(examples, vectors, strict=True)
    ]


class EncodingFailed(Exception):
    """There are no vectors for these texts; the message says why."""


class _Sized(ABC):
    """Knows the length of its vectors once it was asked for one."""

    _dimension = 0

    @property
    def dimension(self) -> int:
        """Raises EncodingFailed."""
        if not self._dimension:
            self.encode(["dimension"])
        return self._dimension

    def encode(self, texts: Sequence[str]) -> Floats:
        """A vector of length 1 for each text, shape (n, dimension). Raises EncodingFailed."""
        vectors = _unit([vector for batch in _batches(texts) for vector in self._vectors(batch)])
        if len(vectors):
            self._dimension = self._dimension or vectors.shape[1]
            if vectors.shape[1] != self._dimension:
                raise EncodingFailed(f"the vectors have {vectors.shape[1]} numbers, no longer {self._dimension}")
        return vectors

    @abstractmethod
    def _vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """One for each of at most `BATCH` texts. Raises EncodingFailed."""


def encoder(config: EncoderSettings, settings: Settings) -> Encoder:
    """Raises ConfigError for an unknown model, a file that cannot be read, or a missing library."""
    return OnnxEncoder(config) if isinstance(config, OnnxSettings) else EmbeddingsEncoder(config, settings)


class EmbeddingsEncoder(_Sized):
    """Asks the first replica of a configured model, with its key."""

    def __init__(self, config: EmbeddingsSettings, settings: Settings) -> None:
        model = settings.config.models.get(config.model)
        if model is None:
            raise ConfigError(f"encoder: unknown model '{config.model}'; known: {', '.join(settings.config.models)}")
        key = settings.secrets.upstream.get(config.model)
        self._url = f"{model.base_urls[0]}/embeddings"
        self._model = model.model or config.model
        self._headers = {"content-type": "application/json"}
        self._open = build_opener(ProxyHandler({})).open  # as for requests, no proxy of the environment is asked
        if key:
            self._headers["authorization"] = f"Bearer {key.get_secret_value()}"

    @property
    def name(self) -> str:
        return f"embeddings:{self._model}"

    def _vectors(self, texts: Sequence[str]) -> list[list[float]]:
        body = json.dumps({"model": self._model, "input": list(texts), "encoding_format": "float"}).encode()
        try:
            with self._open(Request(self._url, body, self._headers), timeout=CALL_S) as answer:
                found = json.loads(answer.read())
            rows = sorted(found["data"], key=lambda row: row["index"])
            vectors = [list(map(float, row["embedding"])) for row in rows]
        except HTTPError as error:
            told = error.read(SHOWN_BYTES).decode(errors="replace")
            raise EncodingFailed(f"{self._url} answered {error.code}: {told}") from error
        except (URLError, OSError) as error:
            raise EncodingFailed(f"{self._url} does not answer: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise EncodingFailed(f"{self._url} answered something else than embeddings: {error!r}") from error
        if len(vectors) != len(texts):
            raise EncodingFailed(f"{self._url} gave {len(vectors)} embeddings for {len(texts)} texts")
        return vectors


class OnnxEncoder(_Sized):
    """Runs on one thread. A vector is the mean over the text's tokens, or what the model itself pools."""

    def __init__(self, config: OnnxSettings) -> None:
        """Raises ConfigError."""
        try:
            runtime: Any = import_module("onnxruntime")
        except ImportError as error:
            raise ConfigError(f"encoder: kind onnx needs a library ({error}): pip install onnxruntime") from None
        tokenizers: Any = import_module("tokenizers")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = runtime.InferenceSession(str(config.model), options, providers=["CPUExecutionProvider"])
            self._tokenizer = tokenizers.Tokenizer.from_file(str(config.tokenizer))
        except Exception as error:  # both libraries raise classes of their own, for a missing file too
            raise ConfigError(f"encoder: {config.model} with {config.tokenizer} cannot be used: {error}") from error
        self._tokenizer.enable_truncation(config.max_tokens)
        self._tokenizer.enable_padding()
        self._inputs = {each.name for each in self._session.get_inputs()}
        self._name = f"onnx:{config.model.name}:{config.model.stat().st_size}"

    @property
    def name(self) -> str:
        return self._name

    def _vectors(self, texts: Sequence[str]) -> list[list[float]]:
        tokens = self._tokenizer.encode_batch(list(texts))
        mask = np.array([each.attention_mask for each in tokens], dtype=np.int64)
        given = {
            "input_ids": np.array([each.ids for each in tokens], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([each.type_ids for each in tokens], dtype=np.int64),
        }
        try:
            (found, *_) = self._session.run(None, {name: given[name] for name in self._inputs})
        except Exception as error:  # onnxruntime raises classes of its own
            raise EncodingFailed(f"{self._name}: {error}") from error
        if found.ndim == 3:
            weights = mask[:, :, None] / np.maximum(1, mask.sum(axis=1))[:, None, None]
            found = (found * weights).sum(axis=1)
        vectors: list[list[float]] = found.tolist()
        return vectors


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), BATCH):
        yield texts[start : start + BATCH]


def _unit(rows: list[list[float]]) -> Floats:
    """Shape (n, d). Raises EncodingFailed for rows of several lengths, or what is no finite number."""
    if len({len(row) for row in rows}) > 1:
        raise EncodingFailed("the vectors have several lengths")
    vectors = np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    if not np.isfinite(vectors).all():
        raise EncodingFailed("a vector holds something that is no finite number")
    return np.asarray(vectors / np.maximum(1e-12, np.linalg.norm(vectors, axis=1, keepdims=True)))
