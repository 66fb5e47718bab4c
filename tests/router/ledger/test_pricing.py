"""Money is exact: integer nano-dollars, one rounding for a usage, no token paid twice, nothing summed as a float."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import ConfigError
from router.ledger.bill import Bill
from router.ledger.pricing import NANO_PER_USD, DatedPrices, PriceList, Usage, price_list, usd
from router.price_settings import Capacity, GpuPrice, Price
from router.settings import Config, masked, parse

untimed = settings(deadline=None)  # a busy machine is no failure

PRICES = st.decimals(0, 1_000_000, places=6)
TOKENS = st.integers(0, 10_000_000)
FEW = st.integers(0, 12)
ORIGINS = st.sampled_from(["serve", "escalation", "gate", "shadow", "judge", "retry", "cancelled"])
NOW = datetime.now(UTC)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Parts that fit into the whole."""
    given_in, out = draw(TOKENS), draw(TOKENS)
    return Usage(given_in, out, draw(st.integers(0, given_in)), draw(st.integers(0, out)))


ANY_USAGE = st.builds(Usage, FEW, FEW, FEW, FEW, FEW, FEW, FEW)
LISTS = st.builds(
    lambda prices: price_list(Price(**prices)),
    st.fixed_dictionaries(
        {name: PRICES.map(float) for name in ("input", "output")},
        optional={
            name: PRICES.map(float)
            for name in ("cached_input", "image_input", "audio_input", "reasoning", "audio_output")
        },
    ),
)


def prices_of(price_in: Decimal, price_cached: Decimal, price_out: Decimal) -> PriceList:
    return price_list(Price(input=float(price_in), cached_input=float(price_cached), output=float(price_out)))


def token_by_token(prices: PriceList, usage: Usage) -> int:
    """The cost as a list of tokens would have it: each has one kind, and what is left over is plain."""
    inputs = (
        [prices.cached_input] * usage.cached_tokens
        + [prices.audio_input] * usage.audio_input_tokens
        + [prices.image_input] * usage.image_tokens
        + [prices.input] * usage.input_tokens
    )
    outputs = (
        [prices.reasoning] * usage.reasoning_tokens
        + [prices.audio_output] * usage.audio_output_tokens
        + [prices.output] * usage.output_tokens
    )
    nano = Fraction(sum(inputs[: usage.input_tokens]) + sum(outputs[: usage.output_tokens]), 1_000_000)
    return int(nano + Fraction(1, 2))


@untimed
@given(PRICES, PRICES, PRICES, usages())
def test_a_cost_is_the_decimal_one_rounded_once(fresh: Decimal, cached: Decimal, out: Decimal, usage: Usage) -> None:
    tokens = (
        (usage.input_tokens - usage.cached_tokens, fresh),
        (usage.cached_tokens, cached),
        (usage.output_tokens, out),
    )
    exact = sum((Decimal(count) * price for count, price in tokens), Decimal()) / 1_000_000 * NANO_PER_USD
    assert prices_of(fresh, cached, out).cost(usage) == int(exact.quantize(Decimal(1), ROUND_HALF_UP))


@untimed
@given(LISTS, ANY_USAGE)
def test_each_token_is_paid_once_whatever_the_upstream_says_of_its_parts(prices: PriceList, usage: Usage) -> None:
    assert prices.cost(usage) == token_by_token(prices, usage)


@untimed
@given(LISTS, ANY_USAGE, FEW, FEW)
def test_more_tokens_never_cost_less_and_no_cost_is_negative_or_above_the_bound(
    prices: PriceList, usage: Usage, more_in: int, more_out: int
) -> None:
    fields = {name: getattr(usage, name) for name in usage.__struct_fields__}
    fields["input_tokens"] += more_in
    fields["output_tokens"] += more_out
    more = Usage(**fields)
    assert 0 <= prices.cost(usage) <= prices.cost(more)
    assert prices.cost(more) <= prices.at_most(more.input_tokens, more.output_tokens)
    assert prices.free == (prices.cost(Usage(10**9, 10**9)) == 0 == prices.at_most(10**9, 10**9))


@untimed
@given(PRICES, PRICES, usages(), usages())
def test_the_parts_cost_what_the_whole_does_but_for_a_rounding(
    price_in: Decimal, price_out: Decimal, one: Usage, other: Usage
) -> None:
    prices = prices_of(price_in, price_in, price_out)
    both = Usage(one.input_tokens + other.input_tokens, one.output_tokens + other.output_tokens)
    assert abs(prices.cost(one) + prices.cost(other) - prices.cost(both)) <= 1


@untimed
@given(PRICES, PRICES, usages())
def test_a_cheaper_cache_never_costs_more(price_in: Decimal, price_out: Decimal, usage: Usage) -> None:
    prices = prices_of(price_in, price_in / 10, price_out)
    assert prices.cost(usage) <= prices.cost(Usage(usage.input_tokens, usage.output_tokens))


def test_more_cached_tokens_than_input_are_not_believed() -> None:
    prices = prices_of(Decimal(2), Decimal(1), Decimal(0))
    assert prices.cost(Usage(10, 0, cached_tokens=99)) == prices.cost(Usage(10, 0, cached_tokens=10)) == 10_000


def test_a_part_without_a_price_of_its_own_costs_what_the_whole_does() -> None:
    prices = price_list(Price(input=2, output=8))
    assert prices == price_list(
        Price(input=2, output=8, cached_input=2, image_input=2, audio_input=2, reasoning=8, audio_output=8)
    )
    assert prices.cost(Usage(10, 10, 1, 2, 3, 4, 5)) == prices.cost(Usage(10, 10))
    assert prices.usd_per_mtok().audio_output == 8.0


@untimed
@given(st.integers(-(10**18), 10**18))
def test_a_text_of_money_says_exactly_the_nano_dollars(nano: int) -> None:
    assert Decimal(usd(nano)) * NANO_PER_USD == nano
    assert len(usd(nano).rpartition(".")[2]) == 9


@untimed
@given(st.lists(st.tuples(ORIGINS, usages())))
def test_a_bill_by_origin_adds_up_to_its_total(charges: list[tuple[str, Usage]]) -> None:
    bill, prices = Bill(), prices_of(Decimal("0.15"), Decimal("0.015"), Decimal("0.6"))
    for origin, usage in charges:
        bill.open("m", prices).settle(origin, usage)  # type: ignore[arg-type]  # sampled from the literals
    assert bill.total_nano == sum(bill.by_origin().values()) == sum(prices.cost(usage) for _, usage in charges)


def test_a_call_is_settled_once() -> None:
    charge = Bill().open("m", prices_of(Decimal(1), Decimal(1), Decimal(1)))
    charge.settle("serve", Usage(1, 1))
    with pytest.raises(RuntimeError, match="'m' was settled twice"):
        charge.settle("serve", Usage(1, 1))


# --- prices by the GPU-hour


@untimed
@given(
    st.decimals("0.01", 100, places=2),
    st.sampled_from([0.25, 0.5, 1, 4, 8, 64]),
    st.floats(1e3, 1e6),
    st.floats(1e3, 1e6),
    st.integers(1, 3600),
)
def test_a_machine_that_is_full_earns_its_bill(
    price: Decimal, gpus: float, prefill: float, decode: float, busy_s: int
) -> None:
    """The tokens of some seconds of pure prefill, or decode, cost what the machine does in that time."""
    capacity = Capacity(prefill_tokens_per_s=prefill, decode_tokens_per_s=decode)
    prices = price_list(GpuPrice(price_per_gpu_hour_usd=float(price), gpus=gpus, capacity=capacity))
    bill = Fraction(price) * Fraction(gpus) * NANO_PER_USD * busy_s / 3600
    assert abs(prices.per_hour * busy_s - bill * 3600) <= busy_s
    for tokens, cost in (
        (round(prefill * busy_s), prices.cost(Usage(round(prefill * busy_s), 0))),
        (round(decode * busy_s), prices.cost(Usage(0, round(decode * busy_s)))),
    ):
        # a price is rounded to a nano-dollar for a million tokens, the tokens to whole ones, the cost once
        assert abs(cost - bill) <= 1 + tokens / 1_000_000 + bill / tokens


def test_a_hit_in_the_prefix_cache_takes_no_prefill() -> None:
    capacity = Capacity(prefill_tokens_per_s=1000, decode_tokens_per_s=100)
    prices = price_list(GpuPrice(price_per_gpu_hour_usd=3.6, gpus=1, capacity=capacity))
    assert (prices.input, prices.output, prices.per_hour) == (10**9, 10**10, 3_600_000_000)
    assert prices.cost(Usage(1000, 10, cached_tokens=900)) == prices.cost(Usage(100, 10)) == 200_000
    assert prices.cost(Usage(100, 10, 0, 5, 50, 50, 5)) == prices.cost(Usage(100, 10))


# --- prices with dates


@untimed
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True).map(sorted),
    st.booleans(),
    st.lists(st.floats(-5, 60), max_size=30),
)
def test_of_dated_prices_the_latest_that_has_begun_counts(
    starts: list[int], open_start: bool, times: list[float]
) -> None:
    """Whatever the order in which the times are asked for: an audit may look back."""
    begins: list[float] = [float("-inf") if open_start else starts[0], *starts[1:]]
    entries = tuple(
        Price(input=number, output=0).model_copy(update={"from_": _moment(begin)})
        for number, begin in enumerate(begins)
    )
    prices = DatedPrices(entries)
    for now in times:
        valid = [number for number, begin in enumerate(begins) if begin <= now]
        assert prices.at(now).input == max(valid, default=0) * NANO_PER_USD


def _moment(begin: float) -> datetime | None:
    return None if begin == float("-inf") else datetime.fromtimestamp(begin, UTC)


def test_a_price_changes_at_its_date_and_not_before() -> None:
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    now = [midnight.timestamp() - 0.001]
    entries = (Price(input=2, output=8), Price.model_validate({"from": "2026-12-01", "input": 1, "output": 4}))
    prices = DatedPrices(entries, clock=lambda: now[0])
    charge = Bill().open("m", prices.now)
    now[0] = midnight.timestamp()
    charge.settle("serve", Usage(1_000_000, 0))
    assert charge.cost_nano == 2 * NANO_PER_USD
    assert prices.now.cost(Usage(1_000_000, 0)) == NANO_PER_USD


# --- the file


def config(price: Any) -> dict[str, Any]:
    return {"server": {"auth": "none"}, "models": {"m": {"base_urls": ["http://m/v1"], "price": price}}}


def problems(price: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(yaml.safe_dump(config(price)), {})
    return str(caught.value).splitlines()


BY_TOKEN = {"input": 2, "output": 8}
BY_GPU = {
    "price_per_gpu_hour_usd": 2.5,
    "gpus": 4,
    "capacity": {"prefill_tokens_per_s": 20_000, "decode_tokens_per_s": 1500},
}


def with_date(start: str | datetime, price: Mapping[str, Any] = BY_TOKEN) -> dict[str, Any]:
    return {"from": start, **price}


@pytest.mark.parametrize(
    "price",
    [
        BY_TOKEN,
        BY_GPU,
        BY_TOKEN | {"cached_input": 0, "image_input": 1, "audio_input": 40, "reasoning": 9, "audio_output": 80},
        [BY_TOKEN],
        [BY_TOKEN, with_date("2026-01-01"), with_date(NOW + timedelta(days=9), BY_GPU)],
        [with_date("2020-01-01"), with_date("2120-01-01T02:00:00+02:00")],
        with_date("2020-01-01"),
    ],
)
def test_every_form_of_a_price_loads_is_valid_by_the_schema_and_is_shown_as_it_may_be_written(price: Any) -> None:
    settings = parse(yaml.safe_dump(config(price)), {})
    shown = masked(settings)
    assert parse(yaml.safe_dump(shown), {}).config.models["m"] == settings.config.models["m"]
    written = json.loads(json.dumps(config(price), default=datetime.isoformat))
    jsonschema.Draft202012Validator(Config.model_json_schema()).validate(written)


def test_a_yaml_date_is_its_midnight_utc() -> None:
    text = json.dumps(config("PRICE")).replace(
        '"PRICE"', "[{input: 1, output: 1}, {from: 2031-05-04, input: 2, output: 2}]"
    )
    prices = DatedPrices(parse(text, {}).config.models["m"].price)
    midnight = datetime(2031, 5, 4, tzinfo=UTC).timestamp()
    assert [prices.at(midnight + offset).input for offset in (-1, 0)] == [1 * NANO_PER_USD, 2 * NANO_PER_USD]


@pytest.mark.parametrize(
    ("price", "line"),
    [
        (7, "models.m.price: expected {input: …, output: …}"),
        (None, "models.m.price: expected {input: …, output: …}"),
        ([], "models.m.price: at least one price is needed"),
        ({"input": 1}, "models.m.price.output: Field required"),
        (BY_TOKEN | {"inptu": 1}, "models.m.price.inptu: unknown key; known: audio_input, "),
        (BY_TOKEN | {"reasoning": -1}, "models.m.price.reasoning: Input should be greater than or equal to 0"),
        (
            BY_TOKEN | {"audio_input": 1e6 + 1},
            "models.m.price.audio_input: Input should be less than or equal to 1000000",
        ),
        (BY_TOKEN | {"cached_input": float("nan")}, "models.m.price.cached_input: Input should be a finite number"),
        (BY_TOKEN | {"gpus": 4}, "models.m.price: gpus prices machines, input, output prices tokens"),
        ({"gpus": 4}, "models.m.price.capacity: is missing: `distill-router models calibrate` measures it"),
        (BY_GPU | {"gpus": 0}, "models.m.price.gpus: Input should be greater than 0"),
        (
            BY_GPU | {"price_per_gpu_hour_usd": -1},
            "models.m.price.price_per_gpu_hour_usd: Input should be greater than",
        ),
        (
            BY_GPU | {"price_per_gpu_hour_usd": 10_000, "gpus": 11},
            "models.m.price: 110000 USD an hour: more than 100000",
        ),
        (
            BY_GPU | {"capacity": {"prefill_tokens_per_s": 1, "decode_tokens_per_s": 1e-6}},
            "models.m.price: capacity.decode_tokens_per_s makes a million tokens cost 2.77778e+09 USD",
        ),
        (
            BY_GPU | {"capacity": {"prefil": 1, "decode_tokens_per_s": 0}},
            "models.m.price.capacity.decode_tokens_per_s: Input should be greater than 0",
        ),
        (with_date(NOW + timedelta(days=1)), "models.m.price.from: is in the future"),
        ([with_date(NOW + timedelta(days=1))], "models.m.price.0.from: is in the future"),
        ([BY_TOKEN, BY_TOKEN], "models.m.price.1.from: is missing"),
        ([BY_TOKEN, with_date("2026-05-01"), with_date("2026-05-01")], "models.m.price.2.from: must be later"),
        ([BY_TOKEN, with_date("2026-05-01"), with_date("2026-04-01")], "models.m.price.2.from: must be later"),
        ([BY_TOKEN, with_date("soon")], "models.m.price.1.from: 'soon' is neither a date nor a time"),
        ([BY_TOKEN, with_date("2026-05-01T10:00:00")], "models.m.price.1.from: a time needs its zone"),
        ([BY_TOKEN, {"from": 2026, **BY_TOKEN}], "models.m.price.1.from: expected a date"),
        ([BY_TOKEN, with_date("2026-05-01", {"input": -1, "output": 1})], "models.m.price.1.input: Input should be"),
    ],
)
def test_a_price_that_makes_no_sense_is_refused_with_its_place(price: Any, line: str) -> None:
    assert any(found.startswith(line) for found in problems(price)), problems(price)
