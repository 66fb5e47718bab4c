"""Greedy answers of a demo model, batched by prompt length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from serving.demo.tokenizer import END_ID

BATCH_ROWS = 256


@dataclass(frozen=True)
class Answer:
    """The text up to the end mark, and the mean log-probability of its tokens, the end mark included."""

    text: str
    mean_logprob: float


def greedy_answers(model: Any, tokenizer: Any, prompts: Sequence[list[int]], max_tokens: int) -> list[Answer]:
    """One answer for each prompt, in order; same lengths run together, so nothing is padded."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_length[len(prompt)].append(index)
    answers: dict[int, Answer] = {}
    for indices in by_length.values():
        for start in range(0, len(indices), BATCH_ROWS):
            rows = indices[start : start + BATCH_ROWS]
            tokens, logprobs = _decode(model, torch.tensor([prompts[row] for row in rows]), max_tokens)
            for row, ids, scores in zip(rows, tokens, logprobs, strict=True):
                answers[row] = _answer(tokenizer, ids, scores)
    return [answers[index] for index in range(len(prompts))]


def _decode(model: Any, tokens: torch.Tensor, max_tokens: int) -> tuple[list[list[int]], list[list[float]]]:
    """Token ids and their log-probabilities, both (rows, steps); what follows a row's end mark means nothing."""
    cache, chosen, scores = None, [], []
    ended = torch.zeros(len(tokens), dtype=torch.bool)
    with torch.inference_mode():
        for _ in range(max_tokens):
            output = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            logprob, token = output.logits[:, -1].log_softmax(-1).max(-1)
            chosen.append(token)
            scores.append(logprob)
            ended |= token == END_ID
            if bool(ended.all()):
                break
            tokens = token[:, None]
    return torch.stack(chosen, 1).tolist(), torch.stack(scores, 1).tolist()


def _answer(tokenizer: Any, ids: list[int], scores: Iterable[float]) -> Answer:
    length = ids.index(END_ID) + 1 if END_ID in ids else len(ids)
    kept = list(scores)[:length]
    text = tokenizer.decode([token for token in ids[:length] if token != END_ID], skip_special_tokens=False)
    return Answer(text, sum(kept) / length)
