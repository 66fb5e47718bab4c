"""What the ledger adds to a request that waits for nobody: process CPU time, with the journal on.

    python bench/ledger.py [--runs 10] [--iterations 20000] [--prompt-bytes 1000] [--json FILE] [--profile]

The steps are those of the request path: find the purse, bound the call, reserve, settle, add to the hour's sums. What
is subtracted is the same request without a ledger: its body as it goes upstream, and its price. The ledger is real,
with a Redis; the loop never gives way, so that no talk falls into it. Exit status 1 above 20 us with four budgets.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.auth import ANYBODY
from router.bundled_redis import bundled_redis
from router.evidence.redis import connect
from router.ledger.bill import Bill
from router.ledger.bound import worst_nano
from router.ledger.ledger import Ledger
from router.ledger.pricing import NANO_PER_USD, Usage
from router.ledger.status import declare_nothing
from router.record.metrics import Metrics
from router.record.row import VERSION, DecisionRow, RowCharge
from router.request import ClientRequest, parse_fields
from router.settings import parse
from router.upstream.model import ModelClient
from router.wire.body import outgoing

WINDOWS = ("month", "day", "hour", "24h")
BUDGETS = (1, 2, 4)
GOAL_US, MOST_US = 6.0, 20.0
STOCK_USD = 10_000  # leased before the loop, so that no iteration has to ask
ROUTE = "auto"
USAGE = Usage(250, 40, 64)
SENTENCE = 'Summarise the following paragraph for a reader in a "hurry". '


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=20_000)
    parser.add_argument("--prompt-bytes", type=int, default=1_000)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--profile", action="store_true", help="show where the time of four budgets goes")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.runs, options.iterations, options.prompt_bytes, profile=options.profile))
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures))
    sys.exit(figures["added_us"][str(BUDGETS[-1])] > MOST_US)


async def measure(runs: int, iterations: int, prompt_bytes: int, *, profile: bool = False) -> dict[str, Any]:
    """Microseconds of process CPU time a request: the medians of `runs`."""
    figures: dict[str, Any] = {"runs": runs, "iterations": iterations, "prompt_bytes": prompt_bytes}
    figures |= {"goal_us": GOAL_US, "most_us": MOST_US}
    figures["added_us"], figures["range_us"], figures["steps_us"] = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder, bundled_redis(Path(folder) / "redis") as url:
        for budgets in BUDGETS:
            declare_nothing(url)
            async with _request(Path(folder) / f"ledger-{budgets}", url, budgets, prompt_bytes) as path:
                whole = [await _cpu_us(path.with_ledger, iterations) for _ in range(runs)]
                without = [await _cpu_us(path.without_ledger, iterations) for _ in range(runs)]
                added = [one - statistics.median(without) for one in whole]
                figures["added_us"][str(budgets)] = round(statistics.median(added), 2)
                figures["range_us"][str(budgets)] = [round(min(added), 2), round(max(added), 2)]
                figures["steps_us"][str(budgets)] = {
                    name: round(statistics.median([await _cpu_us(step, iterations) for _ in range(runs)]), 2)
                    for name, step in path.steps().items()
                }
                if profile and budgets == BUDGETS[-1]:
                    await _profile(path.with_ledger, iterations)
    return figures


@dataclass
class _Path:
    """One request, again and again."""

    ledger: Ledger
    model: ModelClient
    request: ClientRequest
    row: DecisionRow

    async def with_ledger(self, times: int) -> None:
        """As `open_arm`, `Charge.settle` and the recorder do it."""
        request, model, ledger = self.request, self.model, self.ledger
        for _ in range(times):
            purse = ledger.purse(ANYBODY, ROUTE)
            accounts = purse.accounts(model.name)
            out = outgoing(request, model, bounded=bool(accounts))
            hold = await purse.reserve(accounts, worst_nano(request, model, out, model.prices)) if accounts else None
            Bill().open(model.name, model.prices, hold).settle("serve", USAGE)
            ledger.tally(self.row)

    async def without_ledger(self, times: int) -> None:
        for _ in range(times):
            outgoing(self.request, self.model)
            Bill().open(self.model.name, self.model.prices).settle("serve", USAGE)

    def steps(self) -> dict[str, Callable[[int], Awaitable[None]]]:
        """Some of the steps by themselves, each with its share of the loop."""
        request, model, ledger = self.request, self.model, self.ledger
        purse = ledger.purse(ANYBODY, ROUTE)
        accounts = purse.accounts(model.name)
        out = outgoing(request, model, bounded=True)
        worst = worst_nano(request, model, out, model.prices)

        async def find_purse(times: int) -> None:
            for _ in range(times):
                ledger.purse(ANYBODY, ROUTE).accounts(model.name)

        async def bound(times: int) -> None:
            for _ in range(times):
                worst_nano(request, model, out, model.prices)

        async def reserve_and_settle(times: int) -> None:
            for _ in range(times):
                Bill().open(model.name, model.prices, await purse.reserve(accounts, worst)).settle("serve", USAGE)

        async def reserve_and_release(times: int) -> None:
            for _ in range(times):
                (await purse.reserve(accounts, worst)).release()

        async def tally(times: int) -> None:
            for _ in range(times):
                ledger.tally(self.row)

        return {
            "purse": find_purse,
            "bound": bound,
            "reserve and release": reserve_and_release,
            "reserve and settle": reserve_and_settle,
            "tally": tally,
        }


@asynccontextmanager
async def _request(state_dir: Path, redis_url: str, budgets: int, prompt_bytes: int) -> AsyncIterator[_Path]:
    """A ledger with so many budgets on the call and enough leased for all iterations."""
    settings = parse(json.dumps(_config(state_dir, budgets)), {})
    model = ModelClient("teacher", settings.config.models["teacher"], None)
    ledger = Ledger(settings.config, connect(redis_url, settings), Metrics())
    await ledger.start(settings.config)
    accounts = ledger.purse(ANYBODY, ROUTE).accounts("teacher")
    assert len(accounts) == budgets
    (await ledger.reserve(accounts, STOCK_USD * NANO_PER_USD)).release()
    prompt = (SENTENCE * (prompt_bytes // len(SENTENCE) + 1))[:prompt_bytes]
    body = json.dumps({"model": ROUTE, "messages": [{"role": "user", "content": prompt}]}).encode()
    request = ClientRequest("chat", body, [], ANYBODY, parse_fields(body))
    cost = model.prices.cost(USAGE)
    charge = RowCharge("serve", "teacher", cost, USAGE.input_tokens, USAGE.cached_tokens, USAGE.output_tokens)
    row = DecisionRow(VERSION, "0" * 22, time.time(), "chat", rt=ROUTE, ch=[charge], to=cost)
    try:
        yield _Path(ledger, model, request, row)
    finally:
        await ledger.close()


def _config(state_dir: Path, budgets: int) -> dict[str, Any]:
    upstream = "http://127.0.0.1:9/v1"
    model: dict[str, Any] = {"base_urls": [upstream], "max_output_tokens": 512}
    return {
        "server": {"auth": "none"},
        "redis": {"url": "embedded"},
        "ledger": {"state_dir": str(state_dir)},
        "models": {
            "teacher": model | {"price": {"input": 2.0, "cached_input": 0.2, "output": 8.0}},
            "student": model | {"price": {"input": 0.2, "output": 0.8}},
        },
        "routes": {ROUTE: {"teacher": "teacher", "student": "student"}},
        "budgets": {f"per-{window}": {"window": window, "limit_usd": 1_000_000} for window in WINDOWS[:budgets]},
    }


async def _cpu_us(step: Callable[[int], Awaitable[None]], iterations: int) -> float:
    started = time.process_time()
    await step(iterations)
    return (time.process_time() - started) / iterations * 1e6


async def _profile(step: Callable[[int], Awaitable[None]], iterations: int) -> None:
    profile = cProfile.Profile()
    profile.enable()
    await step(iterations)
    profile.disable()
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
