"""Money is exact: integer nano-dollars, one rounding for a usage, nothing summed as a float."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.ledger.bill import Bill
from router.ledger.pricing import NANO_PER_USD, PriceList, Usage, price_list, usd
from router.settings import Price

PRICES = st.decimals(0, 1_000_000, places=6)
TOKENS = st.integers(0, 10_000_000)
ORIGINS = st.sampled_from(["serve", "escalation", "shadow", "judge", "retry", "cancelled"])


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    given_in, out = draw(TOKENS), draw(TOKENS)
    return Usage(given_in, out, draw(st.integers(0, given_in)), draw(st.integers(0, out)))


def prices_of(price_in: Decimal, price_cached: Decimal, price_out: Decimal) -> PriceList:
    return price_list(Price(input=float(price_in), cached_input=float(price_cached), output=float(price_out)))


@given(PRICES, PRICES, PRICES, usages())
def test_a_cost_is_the_decimal_one_rounded_once(fresh: Decimal, cached: Decimal, out: Decimal, usage: Usage) -> None:
    tokens = (
        (usage.input_tokens - usage.cached_tokens, fresh),
        (usage.cached_tokens, cached),
        (usage.output_tokens, out),
    )
    exact = sum((Decimal(count) * price for count, price in tokens), Decimal()) / 1_000_000 * NANO_PER_USD
    assert prices_of(fresh, cached, out).cost(usage) == int(exact.quantize(Decimal(1), ROUND_HALF_UP))


@given(PRICES, PRICES, usages(), usages())
def test_the_parts_cost_what_the_whole_does_but_for_a_rounding(
    price_in: Decimal, price_out: Decimal, one: Usage, other: Usage
) -> None:
    prices = prices_of(price_in, price_in, price_out)
    both = Usage(one.input_tokens + other.input_tokens, one.output_tokens + other.output_tokens)
    assert abs(prices.cost(one) + prices.cost(other) - prices.cost(both)) <= 1


@given(PRICES, PRICES, usages())
def test_more_tokens_never_cost_less_and_a_cheaper_cache_never_more(
    price_in: Decimal, price_out: Decimal, usage: Usage
) -> None:
    prices = prices_of(price_in, price_in / 10, price_out)
    more = Usage(usage.input_tokens + 1, usage.output_tokens + 1, usage.cached_tokens)
    assert 0 <= prices.cost(usage) <= prices.cost(more)
    assert prices.cost(usage) <= prices.cost(Usage(usage.input_tokens, usage.output_tokens))


def test_more_cached_tokens_than_input_are_not_believed() -> None:
    prices = prices_of(Decimal(2), Decimal(1), Decimal(0))
    assert prices.cost(Usage(10, 0, cached_tokens=99)) == prices.cost(Usage(10, 0, cached_tokens=10)) == 10_000


@given(st.integers(-(10**18), 10**18))
def test_a_text_of_money_says_exactly_the_nano_dollars(nano: int) -> None:
    assert Decimal(usd(nano)) * NANO_PER_USD == nano
    assert len(usd(nano).rpartition(".")[2]) == 9


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
