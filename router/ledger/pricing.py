"""What a usage costs. Integer nano-dollars (1e-9 USD); the only place that turns tokens into money."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from router.settings import Price

NANO_PER_USD = 1_000_000_000
TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `cached_tokens` are part of `input_tokens`, `reasoning_tokens` of `output_tokens`."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PriceList:
    """Nano-dollars per million tokens."""

    input: int
    cached_input: int
    output: int

    @property
    def free(self) -> bool:
        return not (self.input or self.cached_input or self.output)

    def cost(self, usage: Usage) -> int:
        """Nano-dollars, rounded half up once for the whole usage."""
        cached = min(usage.cached_tokens, usage.input_tokens)
        total = (
            (usage.input_tokens - cached) * self.input + cached * self.cached_input + usage.output_tokens * self.output
        )
        return (total + TOKENS_PER_PRICE // 2) // TOKENS_PER_PRICE


def price_list(price: Price) -> PriceList:
    """The configured USD per million tokens as integers; what is written in decimal stays exact to 1e-9 USD."""
    cached = price.input if price.cached_input is None else price.cached_input
    return PriceList(_nano(price.input), _nano(cached), _nano(price.output))


def _nano(usd: float) -> int:
    return round(Fraction(str(usd)) * NANO_PER_USD)


def usd(nano: int) -> str:
    """A decimal USD text of exactly nine places, for headers and tables of record."""
    sign = "-" if nano < 0 else ""
    whole, rest = divmod(abs(nano), NANO_PER_USD)
    return f"{sign}{whole}.{rest:09d}"
