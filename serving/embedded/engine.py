"""A loaded checkpoint with its scheduler, for asyncio: submit prompts, iterate over outputs, hang up at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from serving.embedded.chat import load_chat_template
from serving.embedded.checkpoint import Array, Checkpoint, load_checkpoint
from serving.embedded.errors import BadRequest, CheckpointError, ContextLengthExceeded, EngineError
from serving.embedded.metrics import EngineMetrics
from serving.embedded.model import LlamaModel
from serving.embedded.sampling import SamplingParams
from serving.embedded.scheduler import Event, Job, Limits, Scheduler
from serving.embedded.sequence import Delta, Embedding, Generation
from serving.embedded.sequence import Sequence as ModelSequence
from serving.embedded.tokenizer import load_tokenizer

Output = TypeVar("Output")
_SEEDS = 2**64


class Submission(Generic[Output]):
    """The sequences of one request on their way; `close` may be called at any time and more than once."""

    def __init__(
        self,
        scheduler: Scheduler,
        sequences: Sequence[ModelSequence[Output]],
        observe: Callable[[Output], None] | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._observe = observe
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        jobs = [Job(sequence, self._deliver) for sequence in sequences]
        self._unfinished = {job: index for index, job in enumerate(jobs)}
        scheduler.submit(jobs)

    async def outputs(self) -> AsyncIterator[tuple[int, Output]]:
        """(index of the sequence, output) as they come, until all sequences are finished. Raises EngineError."""
        while self._unfinished:
            event = await self._events.get()
            index = self._unfinished[event.job]
            if event.last:
                del self._unfinished[event.job]
            if isinstance(event.output, EngineError):
                raise event.output
            yield index, event.output

    async def last_outputs(self) -> list[Output]:
        """The last output of every sequence, in their order: the only one where sequences do not stream."""
        found = {index: output async for index, output in self.outputs()}
        return [found[index] for index in sorted(found)]

    def close(self) -> None:
        """Drop what is not finished from the batch and the queue."""
        dropped, self._unfinished = self._unfinished, {}
        if dropped:
            self._scheduler.cancel(dropped)

    def _deliver(self, event: Event) -> None:
        if self._observe is not None and not isinstance(event.output, EngineError):
            self._observe(event.output)
        self._events.put_nowait(event)


class Engine:
    """Serves one checkpoint. Built anywhere, then started and used on one event loop."""

    def __init__(self, checkpoint: Checkpoint, limits: Limits) -> None:
        self.defaults = checkpoint.defaults
        self.context_tokens = checkpoint.config.max_position_embeddings
        self.hidden_size = checkpoint.config.hidden_size
        self.vocab_size = checkpoint.config.vocab_size
        self.chat_template = load_chat_template(checkpoint)
        self.tokenizer = load_tokenizer(checkpoint.directory / "tokenizer.json")
        if self.tokenizer.vocab_size > self.vocab_size:
            raise CheckpointError(
                f"{checkpoint.directory}: tokenizer.json has ids up to {self.tokenizer.vocab_size - 1}, config.json a "
                f"vocab_size of {self.vocab_size}; they do not belong together"
            )
        # Longer texts cannot fit whatever they say; a normaliser (NFKC) may shorten a text, by less than this factor.
        self._most_prompt_chars = 4 * self.context_tokens * self.tokenizer.longest_token_bytes
        self._eos_token_ids = checkpoint.eos_token_ids | self._named_eos(checkpoint)
        self._scheduler = Scheduler(LlamaModel(checkpoint.config, checkpoint.weights), limits, self._emit)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.metrics = EngineMetrics(running=lambda: self._scheduler.running, waiting=lambda: self._scheduler.waiting)

    @property
    def alive(self) -> bool:
        return self._scheduler.alive

    def start(self) -> None:
        """Start computing; outputs arrive on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._scheduler.start()

    def stop(self) -> None:
        """End the scheduler's thread after its step; submissions that are not finished raise EngineStopped."""
        self._scheduler.stop()

    def tokenize(self, text: str, param: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text that fit the context. Raises BadRequest, ContextLengthExceeded."""
        if len(text) > self._most_prompt_chars:
            raise ContextLengthExceeded(
                f"This model's maximum context length is {self.context_tokens} tokens. However, the {param} "
                f"({len(text)} characters) cannot fit. Please reduce the length of the {param}.",
                param=param,
            )
        token_ids = self.tokenizer.encode(text, add_special_tokens=add_special_tokens)
        self.check_prompt(token_ids, param)
        return token_ids

    def check_prompt(self, token_ids: Sequence[int], param: str) -> None:
        """Raises BadRequest where the model cannot read the prompt, ContextLengthExceeded where it is too long."""
        if not token_ids:
            raise BadRequest(f"{param} must not be empty.", param=param)
        if len(token_ids) > self.context_tokens:
            raise ContextLengthExceeded(
                f"This model's maximum context length is {self.context_tokens} tokens. However, you sent "
                f"{len(token_ids)} tokens in the {param}. Please reduce the length of the {param}.",
                param=param,
            )
        if not 0 <= min(token_ids) <= max(token_ids) < self.vocab_size:
            raise BadRequest(f"{param} holds token ids outside of 0 to {self.vocab_size - 1}.", param=param)

    def generate(
        self,
        prompts: Iterable[tuple[Sequence[int], SamplingParams]],
        *,
        choices: int,
        stream: bool,
        echo: bool = False,
    ) -> Submission[Delta]:
        """Continue each prompt `choices` times: sequence `p * choices + c` is choice c of prompt p.

        Choice c of a seeded request draws with seed + c, as in vLLM. Raises TooManyRequests, EngineStopped.
        """
        sequences = []
        for prompt_ids, params in prompts:
            for choice in range(choices):
                seeded = params if params.seed is None else replace(params, seed=(params.seed + choice) % _SEEDS)
                sequences.append(
                    Generation(
                        prompt_ids,
                        seeded,
                        self.tokenizer,
                        vocab_size=self.vocab_size,
                        eos_token_ids=self._eos_token_ids,
                        stream=stream,
                        echo=echo,
                    )
                )
        return self._submit(sequences, self.metrics.observe)

    def embed(self, prompts: Iterable[Sequence[int]]) -> Submission[Array]:
        """One vector a prompt, of length one. Raises TooManyRequests, EngineStopped."""
        return self._submit([Embedding(prompt_ids) for prompt_ids in prompts])

    def _submit(
        self, sequences: Sequence[ModelSequence[Output]], observe: Callable[[Output], None] | None = None
    ) -> Submission[Output]:
        submission = Submission(self._scheduler, sequences, observe)
        self.metrics.prompt_tokens.inc(sum(len(sequence.token_ids) for sequence in sequences))
        return submission

    def _emit(self, events: list[Event]) -> None:
        """Called on the scheduler's thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._dispatch, events)

    @staticmethod
    def _dispatch(events: list[Event]) -> None:
        for event in events:
            event.job.deliver(event)

    def _named_eos(self, checkpoint: Checkpoint) -> set[int]:
        """The tokenizer's own end token, which vLLM stops at whatever the other files say."""
        token = checkpoint.tokenizer_config.get("eos_token")
        content = token.get("content") if isinstance(token, dict) else token
        token_id = self.tokenizer.token_id(content) if isinstance(content, str) else None
        return set() if token_id is None else {token_id}


def load_engine(directory: Path, limits: Limits) -> Engine:
    """The engine for a checkpoint folder. Raises CheckpointError."""
    return Engine(load_checkpoint(directory), limits)
