"""Training text: examples put into conversations, rendered by the chat template and gathered into padded batches.

Knows the tasks and the tokenizer, not the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Any

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from serving.demo.tasks import TASKS, Example, Split
from serving.demo.tokenizer import CHAT_TEMPLATE, END, PAD_ID, build_tokenizer

# Shares of the training examples that stand in a wider conversation, so that clients' habits do not throw the models.
SYSTEM_SHARE, EARLIER_TURN_SHARE, IDLE_TOOLS_SHARE = 0.05, 0.06, 0.03
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "Answer with the result only.",
    "Be concise.",
)
BUCKET_TOKENS = 32
IGNORED = -100
"""The label of tokens that are no part of an answer (torch's cross entropy skips it)."""

Mix = dict[tuple[str, int], float]
"""Weight by task and size; size 0 stands for any."""


@dataclass(frozen=True)
class Batch:
    """Token ids and labels of one length bucket, both (examples, tokens); labels are shifted to the next token."""

    tokens: torch.Tensor
    labels: torch.Tensor


class Renderer:
    """Turns messages into token ids the way an engine does that applies the chat template."""

    def __init__(self) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self._template = environment.from_string(CHAT_TEMPLATE)
        self.tokenizer: Tokenizer = build_tokenizer()

    def prompt_ids(self, messages: list[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        text = self._template.render(messages=messages, tools=list(tools), add_generation_prompt=True)
        return self.encode(text)

    def example_ids(self, example: Example) -> list[int]:
        """The prompt of an example on its own."""
        return self.prompt_ids([_user(example.prompt)], example.tools)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def draw_examples(mix: Mix, count: int, rng: Random) -> list[Example]:
    """Examples from the training split, repeats kept: small spaces must be seen often."""
    kinds = rng.choices(list(mix), weights=list(mix.values()), k=count)
    return [TASKS[name].example(rng, Split.TRAIN, size) for name, size in kinds]


def conversation(example: Example, rng: Random) -> tuple[list[dict[str, Any]], Sequence[dict[str, Any]]]:
    """Messages and tools around an example: mostly its prompt alone, at times a system prompt or an earlier turn."""
    messages = [_user(example.prompt)]
    if rng.random() < EARLIER_TURN_SHARE:
        earlier = TASKS[rng.choice(("upper", "add1", "add2", "reverse", "sort"))].example(rng, Split.TRAIN)
        messages = [_user(earlier.prompt), {"role": "assistant", "content": earlier.answer}, *messages]
    if rng.random() < SYSTEM_SHARE:
        messages = [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}, *messages]
    idle_tools = not example.tools and rng.random() < IDLE_TOOLS_SHARE
    return messages, TASKS["tool_call"].example(rng).tools if idle_tools else example.tools


def batches(examples: Sequence[Example], renderer: Renderer, rng: Random) -> list[Batch]:
    """The examples in their conversations, bucketed by length so that few tokens are padding."""
    rows = []
    for example in examples:
        prompt = renderer.prompt_ids(*conversation(example, rng))
        rows.append((prompt, renderer.encode(example.answer + END)))
    rows.sort(key=_row_tokens)
    return [_pad(list(bucket)) for _, bucket in groupby(rows, key=lambda row: _row_tokens(row) // BUCKET_TOKENS)]


def _row_tokens(row: tuple[list[int], list[int]]) -> int:
    return len(row[0]) + len(row[1])


def _pad(rows: list[tuple[list[int], list[int]]]) -> Batch:
    width = max(map(_row_tokens, rows)) - 1
    tokens = torch.full((len(rows), width), PAD_ID)
    labels = torch.full((len(rows), width), IGNORED)
    for index, (prompt, answer) in enumerate(rows):
        inputs = (prompt + answer)[:-1]
        tokens[index, : len(inputs)] = torch.tensor(inputs)
        labels[index, len(prompt) - 1 : len(inputs)] = torch.tensor(answer)
    return Batch(tokens, labels)
