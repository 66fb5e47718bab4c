"""What a model costs, as it is configured: by token, or by the hour of its own machines; with dates where it changes.

    price: {input: 2.0, cached_input: 0.2, output: 8.0}
    price: {price_per_gpu_hour_usd: 2.5, gpus: 4, capacity: {prefill_tokens_per_s: 20000, decode_tokens_per_s: 1500}}
    price: [{input: 2.0, output: 8.0}, {from: 2026-12-01, input: 1.5, output: 6.0}]

`router.ledger.pricing` turns it into integers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from router.setting_types import Block, PriceUsd

MAX_PER_MTOK_USD = 1_000_000.0
MAX_PER_HOUR_USD = 100_000.0  # of all GPUs together: its nano-dollars stay exact as the double that Lua counts in
TOKENS_PER_PRICE = 1_000_000
SECONDS_PER_HOUR = 3600


def _moment(value: Any) -> Any:
    """A date is its midnight UTC; a time says its zone. Raises ValueError."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a time needs its zone, such as 2026-12-01T00:00:00Z; a date alone is midnight UTC")
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ValueError("expected a date (2026-12-01: midnight UTC) or a time with its zone (2026-12-01T00:00:00Z)")


def _parsed(text: str) -> date:
    try:
        return date.fromisoformat(text) if len(text) == len("2026-12-01") else datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is neither a date nor a time such as 2026-12-01T00:00:00Z") from None


Moment = Annotated[datetime, BeforeValidator(_moment)]


class _Dated(Block):
    """`from` is a word of Python, so that the field has an underscore; the file, the schema and dumps say `from`."""

    from_: Moment | None = Field(
        default=None, alias="from", description="valid from this date (midnight UTC) or time (with zone) on"
    )

    @property
    def starts(self) -> float:
        """Unix time; minus infinity where it was always valid."""
        return self.from_.timestamp() if self.from_ else float("-inf")

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = dump(self)
        return {name.rstrip("_"): value for name, value in fields.items() if value is not None}


class Price(_Dated):
    """USD per million tokens. Cached, image and audio tokens are parts of the input, reasoning and audio of the output;
    a part without a price of its own costs what the whole does."""

    input: PriceUsd
    output: PriceUsd
    cached_input: PriceUsd | None = None
    image_input: PriceUsd | None = None
    audio_input: PriceUsd | None = None
    reasoning: PriceUsd | None = None
    audio_output: PriceUsd | None = None


Rate = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class Capacity(Block):
    """Tokens per second of all the model's GPUs together, each measured alone (`distill-router models calibrate`)."""

    prefill_tokens_per_s: Rate
    decode_tokens_per_s: Rate


class GpuPrice(_Dated):
    """The model's own machines: a bill by the hour, of which each request pays its tokens' share of the capacity."""

    KEYS: ClassVar[frozenset[str]] = frozenset({"price_per_gpu_hour_usd", "gpus", "capacity"})

    price_per_gpu_hour_usd: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]
    gpus: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
    capacity: Capacity

    @property
    def per_hour_usd(self) -> float:
        return self.gpus * self.price_per_gpu_hour_usd

    @model_validator(mode="after")
    def _is_plausible(self) -> GpuPrice:
        if self.per_hour_usd > MAX_PER_HOUR_USD:
            raise ValueError(f"{self.per_hour_usd:g} USD an hour: more than {MAX_PER_HOUR_USD:.0f} is not believed")
        for rate in ("prefill_tokens_per_s", "decode_tokens_per_s"):
            usd = self.per_hour_usd / SECONDS_PER_HOUR / getattr(self.capacity, rate) * TOKENS_PER_PRICE
            if usd > MAX_PER_MTOK_USD:
                raise ValueError(
                    f"capacity.{rate} makes a million tokens cost {usd:g} USD: more than {MAX_PER_MTOK_USD:.0f} "
                    "is not believed"
                )
        return self


AnyPrice = Price | GpuPrice
_FORMS = (
    "expected {input: …, output: …} (USD per million tokens) or "
    "{price_per_gpu_hour_usd: …, gpus: …, capacity: {prefill_tokens_per_s: …, decode_tokens_per_s: …}}"
)
_NO_CAPACITY = (
    "is missing: `distill-router models calibrate` measures it; say `price: {input: 0, output: 0}` until then"
)
Place = tuple[int | str, ...]


def _one_form(value: Any, _: ValidatorFunctionWrapHandler) -> AnyPrice:
    """The form that its keys say, so that a mistake is told about that form alone. Raises ValueError."""
    if isinstance(value, Price | GpuPrice):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(_FORMS)
    by_gpu = GpuPrice.KEYS & set(value)
    by_token = (set(Price.model_fields) - {"from_"}) & set(value)
    if by_gpu and by_token:
        raise ValueError(
            f"{', '.join(sorted(by_gpu))} prices machines, {', '.join(sorted(by_token))} prices tokens: keep one"
        )
    if by_gpu and "capacity" not in value:
        raise _located([(("capacity",), _NO_CAPACITY)])
    return GpuPrice.model_validate(value) if by_gpu else Price.model_validate(value)


_OnePrice = Annotated[AnyPrice, WrapValidator(_one_form)]
_several: TypeAdapter[tuple[AnyPrice, ...]] = TypeAdapter(tuple[_OnePrice, ...])
_one: TypeAdapter[AnyPrice] = TypeAdapter(_OnePrice)


def _prices(value: Any, _: ValidatorFunctionWrapHandler) -> AnyPrice | tuple[AnyPrice, ...]:
    """One price, or several in the order of their dates. Raises ValidationError with the place of each mistake."""
    if not isinstance(value, list | tuple):
        price = _one.validate_python(value)
        if price.starts > time.time():
            raise _located([(("from",), _FUTURE)])
        return price
    prices = _several.validate_python(value)
    if problems := list(_disorder(prices)):
        raise _located(problems)
    return prices


_FUTURE = "is in the future: until then no price would be valid; the first price needs no `from`"


def _disorder(prices: tuple[AnyPrice, ...]) -> Iterator[tuple[Place, str]]:
    """Why some day would have no price, or two."""
    if not prices:
        yield (), "at least one price is needed"
    elif prices[0].starts > time.time():
        yield (0, "from"), _FUTURE
    for number, (before, after) in enumerate(pairwise(prices), 1):
        if after.from_ is None:
            yield (number, "from"), "is missing: every price but the first says from when it is valid"
        elif after.starts <= before.starts:
            yield (number, "from"), f"must be later than that of the price before it ({before.from_})"


def _located(problems: list[tuple[Place, str]]) -> ValidationError:
    """Pydantic puts the place of the price in front of these."""
    return ValidationError.from_exception_data(
        "price",
        [
            InitErrorDetails(type=PydanticCustomError("price", "{text}", {"text": text}), loc=place, input=None)
            for place, text in problems
        ],
    )


Prices = Annotated[AnyPrice | tuple[AnyPrice, ...], WrapValidator(_prices)]


def dated(prices: AnyPrice | tuple[AnyPrice, ...]) -> tuple[AnyPrice, ...]:
    """Always several, the oldest first."""
    return prices if isinstance(prices, tuple) else (prices,)
