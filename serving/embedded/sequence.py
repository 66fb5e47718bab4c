"""What the scheduler runs: sequences of tokens that become text or a vector.

A sequence knows its own tokens and what to make of the model's output for them; it knows no batch and no thread.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence as Items
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Literal, TypeVar

import numpy as np

from serving.embedded.checkpoint import Array
from serving.embedded.sampling import Sampler, SamplingParams, TokenLogprob, token_logprob
from serving.embedded.text import TextStream
from serving.embedded.tokenizer import ByteLevelTokenizer

Output = TypeVar("Output")
FinishReason = Literal["stop", "length"]


class LogitsFor(Enum):
    """The tokens of a chunk whose logits a sequence wants."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


class Sequence(ABC, Generic[Output]):
    """Tokens to compute. After each step `advance` is given what the model said of them, then `take` the output."""

    def __init__(self, prompt_ids: Items[int], capacity: int) -> None:
        self.token_ids = list(prompt_ids)
        self.capacity = capacity
        self.finished = False

    @abstractmethod
    def logits_for(self, start: int, stop: int) -> LogitsFor:
        """Which logits are wanted of the tokens [start, stop)."""

    @abstractmethod
    def advance(self, start: int, hidden: Array, logits: Array) -> None:
        """The tokens from `start` on are computed: hidden states [c, hidden] and the logits asked for."""

    @abstractmethod
    def take(self) -> Output | None:
        """What is new for the client since the last call, if anything is."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer; with `finish_reason` the last one. `stop_reason` is the stop string that ended it.

    `time_to_first_token_s` runs from the admission and comes with the delta that holds the first token.
    """

    text: str
    tokens: tuple[TokenLogprob, ...]
    token_count: int
    finish_reason: FinishReason | None
    stop_reason: str | None
    time_to_first_token_s: float | None


class Generation(Sequence[Delta]):
    """A prompt being continued, token by token.

    As in vLLM, the token that ends an answer counts and has a log-probability, but adds no text.
    With `stream` there is a delta whenever there is something to show, otherwise a single one at the end.
    With `echo` the prompt, its special tokens included, and its log-probabilities come first.
    """

    def __init__(
        self,
        prompt_ids: Items[int],
        params: SamplingParams,
        tokenizer: ByteLevelTokenizer,
        *,
        vocab_size: int,
        eos_token_ids: frozenset[int],
        stream: bool,
        echo: bool = False,
    ) -> None:
        super().__init__(prompt_ids, len(prompt_ids) + params.max_tokens)
        self._prompt_tokens = len(prompt_ids)
        self._params = params
        self._tokenizer = tokenizer
        self._eos_token_ids = frozenset() if params.ignore_eos else eos_token_ids
        self._stream = stream
        self._scores_prompt = echo and params.logprobs is not None
        self._sampler = Sampler(params, prompt_ids, vocab_size)
        self._text = TextStream(params.stop)
        self._new_text = ""
        self._new_tokens: list[TokenLogprob] = []
        self._new_count = 0
        self._finish_reason: FinishReason | None = None
        self._text_start = 0
        self._admitted_s = time.monotonic()
        self._time_to_first_token_s: float | None = None
        if echo:
            self._echo_prompt()

    def logits_for(self, start: int, stop: int) -> LogitsFor:
        if self._scores_prompt and start < self._prompt_tokens:
            return LogitsFor.ALL
        return LogitsFor.LAST if stop == len(self.token_ids) else LogitsFor.NONE

    def advance(self, start: int, hidden: Array, logits: Array) -> None:
        if self._scores_prompt and start < self._prompt_tokens:
            self._score_prompt(start, logits)
        if start + len(hidden) == len(self.token_ids):
            self._continue(logits[-1])

    def take(self) -> Delta | None:
        shows_something = self._new_text or (self._new_tokens and self._new_count)
        if not self.finished and not (self._stream and shows_something):
            return None
        delta = Delta(
            text=self._new_text,
            tokens=tuple(self._new_tokens),
            token_count=self._new_count,
            finish_reason=self._finish_reason,
            stop_reason=self._text.stopped_by,
            time_to_first_token_s=self._time_to_first_token_s,
        )
        self._new_text, self._new_tokens, self._new_count = "", [], 0
        self._time_to_first_token_s = None
        return delta

    def _continue(self, logits: Array) -> None:
        """Draw a token; decide whether it ends the answer."""
        if self._params.max_tokens == 0:
            self._finish("length")
            return
        token_id = self._sampler.draw(logits)
        self.token_ids.append(token_id)
        self._new_count += 1
        if len(self.token_ids) == self._prompt_tokens + 1:
            self._time_to_first_token_s = time.monotonic() - self._admitted_s
        if self._params.logprobs is not None:
            offset = self._text_start + self._text.decoded_chars
            self._new_tokens.append(token_logprob(logits, token_id, self._params.logprobs, offset))
        if token_id in self._eos_token_ids:
            self._finish("stop")
            return
        self._new_text += self._text.push(self._tokenizer.visible_bytes(token_id))
        if self._text.stopped_by is not None:
            self._finish("stop")
        elif len(self.token_ids) == self.capacity:
            self._finish("length")

    def _finish(self, reason: FinishReason) -> None:
        self._new_text += self._text.finish()
        # The last character may have been waiting for more bytes, and complete a stop string as U+FFFD.
        self._finish_reason = "stop" if self._text.stopped_by is not None else reason
        self.finished = True

    def _echo_prompt(self) -> None:
        text = TextStream()
        shown = ""
        for index, token_id in enumerate(self.token_ids):
            if index == 0 and self._scores_prompt:
                self._new_tokens.append(TokenLogprob(token_id, None, (), 0))
            shown += text.push(self._tokenizer.token_bytes(token_id))
        self._new_text = shown + text.finish()
        self._text_start = len(self._new_text)

    def _score_prompt(self, start: int, logits: Array) -> None:
        """The logits of each prompt token say how probable the next prompt token was."""
        text = TextStream()
        for token_id in self.token_ids[: start + 1]:
            text.push(self._tokenizer.token_bytes(token_id))
        alternatives = self._params.logprobs or 0
        for row, token_id in zip(logits, self.token_ids[start + 1 : self._prompt_tokens], strict=False):
            self._new_tokens.append(token_logprob(row, token_id, alternatives, text.decoded_chars))
            text.push(self._tokenizer.token_bytes(token_id))


class Embedding(Sequence[Array]):
    """A text being read for its vector: the mean of the last hidden states, of length one."""

    def __init__(self, prompt_ids: Items[int]) -> None:
        super().__init__(prompt_ids, len(prompt_ids))
        self._sum: Array | None = None

    def logits_for(self, start: int, stop: int) -> LogitsFor:
        return LogitsFor.NONE

    def advance(self, start: int, hidden: Array, logits: Array) -> None:
        total: Array = hidden.sum(axis=0)
        self._sum = total if self._sum is None else self._sum + total
        self.finished = start + len(hidden) == len(self.token_ids)

    def take(self) -> Array | None:
        if not self.finished or self._sum is None:
            return None
        return self._sum / np.float32(np.linalg.norm(self._sum))
