"""`models calibrate`: on the real embedded engine, and on scripted upstreams for what it never does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from router.cli import app
from router.cli.calibrate import Level, decode_rate
from router.errors import ConfigError
from router.ledger.pricing import NANO_PER_USD, price_list
from router.price_settings import GpuPrice
from router.settings import load
from tests.support.scripted import Exchange, Reply, ScriptedUpstream, Status, Step, Usage, failing
from tests.surface.fixtures import Served

untimed = settings(deadline=None)  # a busy machine is no failure

FREE = {"input": 0, "output": 0}
GPU_PRICE = {
    "price_per_gpu_hour_usd": 1.5,
    "gpus": 2,
    "capacity": {"prefill_tokens_per_s": 1, "decode_tokens_per_s": 1},
}
QUICK = ("--seconds", "0.2", "--concurrency", "2")


def write(path: Path, url: str, **model: Any) -> Path:
    config = {"server": {"auth": "none"}, "models": {"m": {"base_urls": [url], "price": FREE, **model}}}
    path.write_text(yaml.safe_dump(config))
    return path


async def calibrate(config: Path, *arguments: str, model: str = "m") -> Result:
    command = ["models", "calibrate", model, "--config", str(config), *arguments]
    return await asyncio.to_thread(CliRunner().invoke, app, command, env={"COLUMNS": "200"})


async def test_a_real_engine_is_measured_and_the_block_can_be_pasted(served_teacher: Served, tmp_path: Path) -> None:
    path = write(tmp_path / "router.yaml", served_teacher.url, model=served_teacher.model, price=GPU_PRICE)
    done = await calibrate(path, *QUICK)
    assert done.exit_code == 0, done.output
    written = yaml.safe_load(path.read_text())
    written["models"]["m"] |= yaml.safe_load(done.stdout)["models"]["m"]
    path.write_text(yaml.safe_dump(written))
    price = load(path, {}).config.models["m"].price
    assert isinstance(price, GpuPrice)
    assert (price.price_per_gpu_hour_usd, price.gpus) == (1.5, 2)
    assert price.capacity.prefill_tokens_per_s > 1 and price.capacity.decode_tokens_per_s > 1
    assert f"{price_list(price).input / NANO_PER_USD:.6g} USD" in done.stdout


async def test_json_says_what_was_measured(served_teacher: Served, tmp_path: Path) -> None:
    path = write(tmp_path / "router.yaml", served_teacher.url, model=served_teacher.model, context_tokens=256)
    done = await calibrate(path, *QUICK, "--json", "--gpu-hour-usd", "2", "--gpus", "0.5")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["price"]["price_per_gpu_hour_usd"], found["price"]["gpus"]) == (2.0, 0.5)
    assert found["price"]["capacity"]["prefill_tokens_per_s"] == float(f"{found['prefill_tokens_per_s']:.4g}")
    assert found["prefill"]["last"]["concurrency"] == found["decode"]["last"]["concurrency"] == 2
    assert found["prefill"]["output_tokens"] == 1 and found["prefill"]["input_tokens"] > 50
    assert found["decode"]["output_tokens"] >= 16  # ignore_eos: no answer ended early


async def test_a_block_whose_price_nobody_said_is_refused_until_it_is_filled_in(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        path = write(tmp_path / "router.yaml", upstream.url)
        done = await calibrate(path, *QUICK)
    assert done.exit_code == 0, done.output
    block = yaml.safe_load(done.stdout)["models"]["m"]["price"]
    write(path, "http://m/v1", price=block)
    with pytest.raises(ConfigError, match=r"models\.m\.price\.gpus: .*number"):
        load(path, {})


def picky(refuses: Callable[[dict[str, Any]], bool], tokens: Callable[[dict[str, Any]], Usage]) -> Step:
    """An upstream that answers 400 to some requests, and counts as it likes."""

    async def step(exchange: Exchange) -> None:
        body = exchange.request.json
        await (failing(400, "no") if refuses(body) else Reply("x", usage=tokens(body)))(exchange)

    return step


def words(body: dict[str, Any]) -> int:
    return len(body["messages"][0]["content"].split())


def counted(body: dict[str, Any]) -> Usage:
    return Usage(words(body), body["max_tokens"])


async def test_what_the_model_refuses_is_made_smaller_and_simpler(tmp_path: Path) -> None:
    """A short context, and a server that knows no `ignore_eos`."""
    default = picky(lambda body: words(body) > 100 or body["max_tokens"] > 64 or "ignore_eos" in body, counted)
    async with ScriptedUpstream(default=default) as upstream:
        done = await calibrate(write(tmp_path / "router.yaml", upstream.url), *QUICK, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert 50 <= found["prefill"]["input_tokens"] <= 100 and found["decode"]["output_tokens"] == 64


async def test_prompts_are_as_long_as_configured_and_adapted(tmp_path: Path) -> None:
    async with ScriptedUpstream(default=picky(lambda body: False, counted)) as upstream:
        path = write(
            tmp_path / "router.yaml", upstream.url, model="big", context_tokens=1000, adapt={"set": {"top_k": 5}}
        )
        done = await calibrate(path, *QUICK, "--json")
        assert {(request.json["model"], request.json["top_k"]) for request in upstream.requests} == {("big", 5)}
        prompts = [request.json["messages"][0]["content"] for request in upstream.requests]
        assert len(set(prompts)) == len(prompts)  # nothing to find in a prefix cache
    assert 700 < json.loads(done.stdout)["prefill"]["input_tokens"] < 800


async def test_cached_input_is_no_prefill(tmp_path: Path) -> None:
    def cached(body: dict[str, Any]) -> Usage:
        return Usage(words(body), body["max_tokens"], cached_tokens=words(body))

    async with ScriptedUpstream(default=picky(lambda body: False, cached)) as upstream:
        done = await calibrate(write(tmp_path / "router.yaml", upstream.url), *QUICK)
    assert done.exit_code == 1 and "prefix cache" in done.stderr


async def test_the_search_ends_where_the_model_has_enough(tmp_path: Path) -> None:
    running = 0

    async def at_most_four(exchange: Exchange) -> None:
        nonlocal running
        running += 1
        answer: Step = failing(429, "slow down") if running > 4 else Reply("x", usage=Usage(50, 5))
        await exchange.sleep(0.03)
        running -= 1  # before the answer: the next request comes right after it
        await answer(exchange)

    async with ScriptedUpstream(default=at_most_four) as upstream:
        done = await calibrate(write(tmp_path / "router.yaml", upstream.url), "--seconds", "0.3", "--json")
    assert done.exit_code == 0, done.output
    for phase in ("prefill", "decode"):
        found = json.loads(done.stdout)[phase]
        tried = [level["concurrency"] for level in found["levels"]]
        assert tried == [2**number for number in range(len(tried))]
        assert found["last"]["concurrency"] in tried and found["last"]["output_tokens_per_s"] > 0


async def test_a_rate_that_is_more_than_was_seen_is_explained(tmp_path: Path) -> None:
    async def slow_prompts(exchange: Exchange) -> None:
        """Prefill 100,000, decode 10,000 tokens per second; short prompts have some tokens too."""
        prompt, answer = words(exchange.request.json), exchange.request.json["max_tokens"]
        await exchange.sleep(prompt / 1e5 + answer / 1e4)
        await Reply("x", usage=Usage(prompt, answer))(exchange)

    async with ScriptedUpstream(default=slow_prompts) as upstream:
        done = await calibrate(write(tmp_path / "router.yaml", upstream.url), *QUICK)
    assert done.exit_code == 0, done.output
    printed = done.stdout.splitlines()
    observed = next(line for line in printed if line.startswith("# decode: ")).split()[2]
    assert any(line.startswith(f"# decode_tokens_per_s is more than these {observed}: ") for line in printed)


@pytest.mark.parametrize(
    ("default", "words_of_error"),
    [
        (Reply("x", usage=None), "reports no usage"),
        (failing(401, "who are you"), "answered 401"),
        (failing(400, "never"), "answered 400"),
        (failing(429, "busy"), "answered 429"),
        (failing(500, "oops"), "does not answer"),
        (Status(200, body=b"hello"), "not a JSON object"),
    ],
)
async def test_a_model_that_cannot_be_measured_is_said_why(tmp_path: Path, default: Step, words_of_error: str) -> None:
    async with ScriptedUpstream(default=default) as upstream:
        done = await calibrate(write(tmp_path / "router.yaml", upstream.url), *QUICK)
    assert done.exit_code == 1
    assert words_of_error in done.stderr and f"model 'm' at {upstream.url}" in done.stderr


async def test_mistakes_of_the_caller_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "router.yaml", "http://me:secret@127.0.0.1:1/v1")
    unreachable = await calibrate(path, *QUICK)
    assert unreachable.exit_code == 1
    assert "model 'm' at http://127.0.0.1:1/v1 does not answer" in unreachable.stderr
    unknown = await calibrate(path, model="n")
    assert unknown.exit_code == 2 and "unknown model 'n'; known: m" in unknown.stderr
    write(path, "http://127.0.0.1:1/v1", api_key_env="NO_SUCH_VARIABLE")
    no_key = await calibrate(path)
    assert no_key.exit_code == 2 and "models.m.api_key_env: the environment has no NO_SUCH_VARIABLE" in no_key.stderr


@untimed
@given(st.floats(1, 1e6), st.floats(1, 1e6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_rates_price_what_was_measured_at_the_time_it_took(
    prefill: float, decode: float, input_tokens: int, output_tokens: int
) -> None:
    """Unless prompts took most of it: then they are not taken out."""
    seconds = input_tokens / prefill + output_tokens / decode
    level = Level(1, seconds, input_tokens / seconds, output_tokens / seconds)
    mostly_decode = input_tokens / prefill < seconds * 0.499
    assert not mostly_decode or decode_rate(level, prefill) == pytest.approx(decode)
    assert level.output_tokens_per_s <= decode_rate(level, prefill) <= decode * 1.0001
