"""What an answer of a model will probably cost: from what its answers took so far. Each worker learns for itself."""

from __future__ import annotations

from router.ledger.pricing import NANO_PER_USD, PriceList, Usage
from router.price_settings import TOKENS_PER_PRICE

FIRST_OUTPUT_TOKENS = 256.0  # expected before anything was seen
MEMORY = 500.0  # answers; older ones fade


class Expected:
    """Running means of one model's tokens per prompt byte and of its output tokens."""

    __slots__ = ("_bytes", "_count", "_output", "_tokens")

    def __init__(self, bytes_per_token: float) -> None:
        self._bytes = bytes_per_token
        self._tokens = 1.0
        self._output = FIRST_OUTPUT_TOKENS
        self._count = 1.0  # what is expected at first weighs as much as one answer

    def learn(self, prompt_bytes: int, usage: Usage) -> None:
        """From an answer whose usage the upstream reported."""
        self._count = min(self._count + 1.0, MEMORY)
        weight = 1.0 / self._count
        self._bytes += weight * (prompt_bytes - self._bytes)
        self._tokens += weight * (usage.input_tokens - self._tokens)
        self._output += weight * (usage.output_tokens - self._output)

    def input_tokens(self, prompt_bytes: int) -> float:
        """Of a prompt of so many bytes."""
        return prompt_bytes * self._tokens / max(self._bytes, 1.0)

    def cost_usd(self, prices: PriceList, prompt_bytes: int, output_limit: int | None) -> float:
        """With nothing cached; `output_limit` as the client set it, in tokens."""
        output = self._output if output_limit is None else min(self._output, output_limit)
        nano = (self.input_tokens(prompt_bytes) * prices.input + output * prices.output) / TOKENS_PER_PRICE
        return nano / NANO_PER_USD
