"""What two engines answered to the same request, and how far apart they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from openai import OpenAI
from openai.types.chat import ChatCompletion

from serving.demo.tasks import Example

TOP_LOGPROBS = 3


@dataclass(frozen=True)
class Answer:
    """All of a chat completion that two engines must agree on; the log-probabilities only nearly."""

    text: str | None
    tool_calls: tuple[tuple[str, str], ...]
    finish_reason: str
    usage: tuple[int, int, int]
    tokens: tuple[str, ...]
    token_bytes: tuple[tuple[int, ...], ...]
    logprobs: tuple[float, ...] = field(compare=False)

    @classmethod
    def of(cls, completion: ChatCompletion) -> Answer:
        (choice,) = completion.choices
        assert completion.usage
        assert choice.logprobs
        tokens = choice.logprobs.content or []
        calls = [call.function for call in choice.message.tool_calls or [] if call.type == "function"]
        return cls(
            text=choice.message.content or None,
            tool_calls=tuple((call.name, call.arguments) for call in calls),
            finish_reason=choice.finish_reason,
            usage=(
                completion.usage.prompt_tokens,
                completion.usage.completion_tokens,
                completion.usage.total_tokens,
            ),
            tokens=tuple(token.token for token in tokens),
            token_bytes=tuple(tuple(token.bytes or ()) for token in tokens),
            logprobs=tuple(token.logprob for token in tokens),
        )


def ask(client: OpenAI, model: str, example: Example, **parameters: Any) -> ChatCompletion:
    """The example as a greedy chat request, with log-probabilities."""
    if example.tools:
        parameters["tools"] = list(example.tools)
    completion: ChatCompletion = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": example.prompt}],
        temperature=0,
        logprobs=True,
        top_logprobs=TOP_LOGPROBS,
        **{"max_tokens": 96} | parameters,
    )
    return completion


@dataclass
class Differences:
    """The largest difference of a token's log-probability by model, over all that was compared."""

    largest: dict[str, float] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def add(self, model: str, left: Answer, right: Answer) -> float:
        """Of one pair of answers with the same tokens; the largest of this pair is returned."""
        apart = [abs(a - b) for a, b in zip(left.logprobs, right.logprobs, strict=True)]
        self.largest[model] = max(self.largest.get(model, 0.0), *apart)
        self.answers[model] = self.answers.get(model, 0) + 1
        self.tokens[model] = self.tokens.get(model, 0) + len(apart)
        return max(apart)

    def summary(self) -> list[str]:
        return [
            f"{model}: {self.answers[model]} answers, {self.tokens[model]} tokens, "
            f"log-probabilities at most {largest:.2g} apart"
            for model, largest in self.largest.items()
        ]
