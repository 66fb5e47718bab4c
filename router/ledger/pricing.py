"""What a usage costs. Integer nano-dollars (1e-9 USD); the only place that turns tokens into money."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import msgspec

from router.price_settings import SECONDS_PER_HOUR, TOKENS_PER_PRICE, AnyPrice, GpuPrice, Price, dated

NANO_PER_USD = 1_000_000_000
_HALF = TOKENS_PER_PRICE // 2


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one call. Cached, image and audio input are parts of `input_tokens`, reasoning and audio output of
    `output_tokens`. A struct, which is made several times as fast as a frozen dataclass: every call makes one."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    image_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PriceList:
    """Nano-dollars per million tokens. `per_hour`: nano-dollars an hour of a self-hosted model's machines, else 0."""

    input: int
    cached_input: int
    image_input: int
    audio_input: int
    output: int
    reasoning: int
    audio_output: int
    per_hour: int = 0
    dearest_input: int = field(init=False, repr=False)
    dearest_output: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        dearest_in = max(self.input, self.cached_input, self.image_input, self.audio_input)
        object.__setattr__(self, "dearest_input", dearest_in)
        object.__setattr__(self, "dearest_output", max(self.output, self.reasoning, self.audio_output))

    @property
    def free(self) -> bool:
        return not (self.dearest_input or self.dearest_output)

    def cost(self, usage: Usage) -> int:
        """Nano-dollars, rounded half up once for the whole usage.

        Each token is paid once: where the reported parts are more than the whole, the first of them count (cached,
        audio, image; reasoning, audio), and what the whole has no room for is not believed.
        """
        total = usage.input_tokens * self.input + usage.output_tokens * self.output
        if usage.cached_tokens or usage.image_tokens or usage.audio_input_tokens:
            total += self._input_parts(usage)
        if usage.reasoning_tokens or usage.audio_output_tokens:
            total += self._output_parts(usage)
        return (total + _HALF) // TOKENS_PER_PRICE

    def at_most(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-dollars that no usage of so many tokens exceeds, whatever parts it turns out to have; rounded up."""
        return -(-(input_tokens * self.dearest_input + output_tokens * self.dearest_output) // TOKENS_PER_PRICE)

    def usd_per_mtok(self) -> Price:
        """The list as it could be configured, also where the price is that of machines."""
        names = ("input", "output", "cached_input", "image_input", "audio_input", "reasoning", "audio_output")
        return Price(**{name: getattr(self, name) / NANO_PER_USD for name in names})

    def _input_parts(self, usage: Usage) -> int:
        """What the parts cost more (or less) than plain input."""
        cached = min(usage.cached_tokens, usage.input_tokens)
        audio = min(usage.audio_input_tokens, usage.input_tokens - cached)
        image = min(usage.image_tokens, usage.input_tokens - cached - audio)
        return (
            cached * (self.cached_input - self.input)
            + audio * (self.audio_input - self.input)
            + image * (self.image_input - self.input)
        )

    def _output_parts(self, usage: Usage) -> int:
        reasoning = min(usage.reasoning_tokens, usage.output_tokens)
        audio = min(usage.audio_output_tokens, usage.output_tokens - reasoning)
        return reasoning * (self.reasoning - self.output) + audio * (self.audio_output - self.output)


class DatedPrices:
    """A model's price lists, each valid from its date on. `at` is one comparison until the next date comes."""

    __slots__ = ("_clock", "_current", "_lists", "_since", "_starts", "_until")

    def __init__(self, prices: AnyPrice | tuple[AnyPrice, ...], clock: Callable[[], float] = time.time) -> None:
        entries = dated(prices)
        self._clock = clock
        self._starts = [entry.starts for entry in entries]
        self._lists = [price_list(entry) for entry in entries]
        self._turn_to(0)

    def at(self, now: float) -> PriceList:
        """The list valid at a Unix time; before the first date the first one."""
        if not self._since <= now < self._until:
            self._turn_to(max(0, bisect_right(self._starts, now) - 1))
        return self._current

    @property
    def now(self) -> PriceList:
        return self._current if len(self._lists) == 1 else self.at(self._clock())

    def _turn_to(self, number: int) -> None:
        self._current = self._lists[number]
        self._since = self._starts[number] if number else float("-inf")
        self._until = self._starts[number + 1] if number + 1 < len(self._starts) else float("inf")


def price_list(price: AnyPrice) -> PriceList:
    """The configured price as integers; what is written in decimal USD per million tokens stays exact to 1e-9 USD."""
    return _by_gpu(price) if isinstance(price, GpuPrice) else _by_token(price)


def _by_token(price: Price) -> PriceList:
    given_in, given_out = _nano(price.input), _nano(price.output)
    return PriceList(
        input=given_in,
        cached_input=_nano(price.cached_input, given_in),
        image_input=_nano(price.image_input, given_in),
        audio_input=_nano(price.audio_input, given_in),
        output=given_out,
        reasoning=_nano(price.reasoning, given_out),
        audio_output=_nano(price.audio_output, given_out),
    )


def _by_gpu(price: GpuPrice) -> PriceList:
    """A token pays the time that it takes of a machine that is full: `gpus x price_per_gpu_hour / 3600 / tokens per
    second`, for input at the prefill rate and for output at the decode rate. A full machine thus earns its bill.

    Cached input is free: the capacity is that of prefill, and a hit in the prefix cache skips it. What holding the
    cache costs is memory that is paid for anyway, and shows in the idle cost.
    """
    a_second = _exact(price.gpus) * _exact(price.price_per_gpu_hour_usd) / SECONDS_PER_HOUR
    given_in, given_out = (
        round(a_second / _exact(rate) * TOKENS_PER_PRICE * NANO_PER_USD)
        for rate in (price.capacity.prefill_tokens_per_s, price.capacity.decode_tokens_per_s)
    )
    return PriceList(
        input=given_in,
        cached_input=0,
        image_input=given_in,
        audio_input=given_in,
        output=given_out,
        reasoning=given_out,
        audio_output=given_out,
        per_hour=round(a_second * SECONDS_PER_HOUR * NANO_PER_USD),
    )


def _nano(usd: float | None, default: int = 0) -> int:
    return default if usd is None else round(_exact(usd) * NANO_PER_USD)


def _exact(value: float) -> Fraction:
    """The decimal number that was written."""
    return Fraction(str(value))


def usd(nano: int) -> str:
    """A decimal USD text of exactly nine places, for headers and tables of record."""
    sign = "-" if nano < 0 else ""
    whole, rest = divmod(abs(nano), NANO_PER_USD)
    return f"{sign}{whole}.{rest:09d}"
