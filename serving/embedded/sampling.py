"""Logits to the next token and to log-probabilities, with vLLM's conventions.

Order as in vLLM: penalties and bias, temperature, top-k, top-p, min-p. Log-probabilities are those of the raw logits,
before any of it (`logprobs_mode=raw_logprobs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.embedded.checkpoint import Array

GREEDY_BELOW = 1e-5
"""Temperatures below it mean greedy decoding, as in vLLM."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one answer is drawn. `logprobs`: None for none, else how many alternatives a token is reported with."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None

    @property
    def greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW

    @property
    def changes_logits(self) -> bool:
        penalties = (self.repetition_penalty - 1, self.presence_penalty, self.frequency_penalty)
        return any(penalties) or bool(self.logit_bias)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its log-probability (None for the first of a prompt) and the most probable tokens in its place.

    `text_offset`: characters of the text that were complete before the token.
    """

    token_id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]
    text_offset: int


class Sampler:
    """Draws the tokens of one sequence."""

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int], vocab_size: int) -> None:
        self._params = params
        self._random = None if params.greedy else np.random.default_rng(params.seed)
        self._seen = np.zeros(vocab_size, bool)
        self._seen[list(prompt_ids)] = True
        self._counts = np.zeros(vocab_size, np.float32)

    def draw(self, logits: Array) -> int:
        """The next token for the logits [vocabulary]."""
        params = self._params
        if params.changes_logits:
            logits = self._adjusted(logits)
        if self._random is None:
            token_id = int(logits.argmax())
        else:
            token_id = _draw(logits.astype(np.float64) / params.temperature, params, self._random.random())
        self._seen[token_id] = True
        self._counts[token_id] += 1
        return token_id

    def _adjusted(self, logits: Array) -> Array:
        params = self._params
        penalty = np.float32(params.repetition_penalty)
        penalised = np.where(logits > 0, logits / penalty, logits * penalty)
        adjusted = np.where(self._seen, penalised, logits)
        adjusted -= np.float32(params.frequency_penalty) * self._counts
        adjusted -= np.float32(params.presence_penalty) * (self._counts > 0)
        for token_id, bias in params.logit_bias.items():
            adjusted[token_id] += np.float32(bias)
        return adjusted


def log_softmax(logits: Array) -> Array:
    """Log-probabilities over the last axis."""
    shifted: Array = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def token_logprob(logits: Array, token_id: int, alternatives: int, text_offset: int) -> TokenLogprob:
    """The token's log-probability under the raw logits [vocabulary], beside the most probable alternatives."""
    logprobs = log_softmax(logits)
    best = np.argsort(-logprobs, kind="stable")[:alternatives]
    top = tuple((int(index), float(logprobs[index])) for index in best)
    return TokenLogprob(token_id, float(logprobs[token_id]), top, text_offset)


def _draw(scaled: NDArray[np.float64], params: SamplingParams, uniform: float) -> int:
    """Invert the cumulative distribution of the tokens that the filters leave."""
    order = np.argsort(-scaled, kind="stable")
    if params.top_k > 0:
        order = order[: params.top_k]
    weights = np.exp(scaled[order] - scaled[order[0]])
    cumulative = np.cumsum(weights)
    # The smallest set that holds top_p of the mass; both filters keep a prefix, as the order is by probability.
    keep = int(np.searchsorted(cumulative, params.top_p * cumulative[-1])) + 1
    keep = min(keep, int(np.count_nonzero(weights >= params.min_p)), len(order))
    chosen = np.searchsorted(cumulative[:keep], uniform * cumulative[keep - 1], side="right")
    return int(order[min(int(chosen), keep - 1)])
