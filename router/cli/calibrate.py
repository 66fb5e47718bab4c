"""`distill-router models calibrate`: prefill and decode tokens per second of a running model, for its GPU-hour price.

Prefill is measured with long prompts of random words (nothing of them is in a prefix cache) and answers of one token,
decode with short prompts and long answers; both with more and more requests at a time until the throughput stops
growing, then once more for longer. The tokens are those of the answers' own usage.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import re
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml
from pydantic import SecretStr, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from router.auth import ANYBODY
from router.errors import ConfigError, RouterError, TooManyRequests, UpstreamFailed
from router.ledger.pricing import NANO_PER_USD, Usage, price_list
from router.price_settings import GpuPrice, dated
from router.request import ClientRequest, parse_fields
from router.settings import Model, load
from router.upstream.model import Attempts, Leash, ModelClient
from router.upstream.transport import TransportError
from router.wire.body import outgoing
from router.wire.replies import read_reply

PROMPT_TOKENS = 2048
SHARE_OF_CONTEXT = 0.75
SHORT_PROMPT_WORDS = 4
ANSWER_TOKENS = (256, 128, 64, 32, 16)
WORD_LETTERS = 5
GROWTH = 1.05
LARGEST_CONCURRENCY = 1024
SWEEP_SHARE = 0.1  # of the time of the last measurement, for each one before it
LEVELS_WITHOUT_GROWTH = 2
TICK_S = 0.1
SHOWN_BYTES = 300
PREFILL_AT_MOST = 0.5  # of the time of the decode phase, or the prefill rate says nothing about these short prompts
FILL_IN = "FILL_IN"

Phase = Literal["prefill", "decode"]


class CalibrationError(Exception):
    """The model could not be measured; the message says why, and what to do."""


class Refused(Exception):
    """The model does not take such a request (400, 413, 422): a smaller or simpler one may do."""


class Overloaded(Exception):
    """The model does not take so many requests at a time."""


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of request: a prompt of so many random words, and the longest answer."""

    words: int
    max_tokens: int
    ignore_eos: bool = False

    def body(self, model: str) -> bytes:
        letters = random.choices(string.ascii_lowercase, k=self.words * WORD_LETTERS)
        words = ("".join(letters[i : i + WORD_LETTERS]) for i in range(0, len(letters), WORD_LETTERS))
        content = "Write a story without an end about: " + " ".join(words)
        fields = {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.max_tokens,
            **({"ignore_eos": True} if self.ignore_eos else {}),
        }
        return msgspec.json.encode(fields)


@dataclass(frozen=True, slots=True)
class Level:
    """What so many requests at a time got through. Cached input is left out: it took no prefill."""

    concurrency: int
    seconds: float
    input_tokens_per_s: float
    output_tokens_per_s: float

    def rate(self, phase: Phase) -> float:
        return self.input_tokens_per_s if phase == "prefill" else self.output_tokens_per_s


@dataclass(frozen=True, slots=True)
class Measurement:
    """`levels`: the search for the concurrency; `last`: the measurement that counts. Tokens are a request's mean."""

    last: Level
    levels: list[Level]
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `models calibrate` prints."""

    model: str
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    prefill: Measurement
    decode: Measurement


@dataclass(frozen=True, slots=True)
class Machines:
    """What the model's GPUs cost; None where nobody said so yet."""

    price_per_gpu_hour_usd: float | None
    gpus: float | None

    def or_those_of(self, config: Model) -> Machines:
        """What is not said is as in the file."""
        known = next((price for price in reversed(dated(config.price)) if isinstance(price, GpuPrice)), None)
        if known is None:
            return self
        price = known.price_per_gpu_hour_usd if self.price_per_gpu_hour_usd is None else self.price_per_gpu_hour_usd
        return Machines(price, known.gpus if self.gpus is None else self.gpus)

    def block(self, measured: Calibration) -> dict[str, Any]:
        """The price as it may be pasted; a gap must be filled, or the file is refused."""
        return {
            "price_per_gpu_hour_usd": FILL_IN if self.price_per_gpu_hour_usd is None else self.price_per_gpu_hour_usd,
            "gpus": FILL_IN if self.gpus is None else self.gpus,
            "capacity": {
                "prefill_tokens_per_s": _significant(measured.prefill_tokens_per_s),
                "decode_tokens_per_s": _significant(measured.decode_tokens_per_s),
            },
        }


class Asker:
    """Asks the model as the gateway does: its keys, its replicas in turn, its `adapt` block; without retries."""

    def __init__(self, name: str, config: Model, client: ModelClient) -> None:
        self._where = f"model '{name}' at {_shown(config)}"
        self._client = client

    async def ask(self, work: Work) -> Usage:
        """The usage of one answer. Raises Refused, Overloaded, CalibrationError."""
        body = work.body(self._client.upstream_name)
        out = outgoing(ClientRequest("chat", body, [], ANYBODY, parse_fields(body)), self._client)
        try:
            reply = await self._client.open(out.path, b"", out.body, stream=False, leash=Leash(), attempts=Attempts())
        except TooManyRequests as error:
            raise Overloaded(str(error)) from error
        except (RouterError, TransportError) as error:
            raise CalibrationError(f"{self._where} does not answer: {error}") from error
        with contextlib.closing(reply):
            return self._usage(reply.status, reply.body)

    def _usage(self, status: int, body: bytes) -> Usage:
        if status != 200:
            said = f"{self._where} answered {status}: {body[:SHOWN_BYTES].decode(errors='replace')}"
            if status == 429:
                raise Overloaded(said)
            raise Refused(said) if status in (400, 413, 422) else CalibrationError(said)
        try:
            usage = read_reply("chat", body).usage
        except UpstreamFailed as error:
            raise CalibrationError(f"{self._where}: {error}") from error
        if usage is None:
            raise CalibrationError(
                f"{self._where} reports no usage (`usage` with prompt_tokens and completion_tokens): "
                "its tokens cannot be counted"
            )
        return usage


class Calibrator:
    """Measures one model. `seconds`: of each of the two measurements that count; `concurrency` None: search for it."""

    def __init__(
        self, asker: Asker, config: Model, seconds: float, concurrency: int | None, progress: Progress
    ) -> None:
        self._asker = asker
        self._config = config
        self._seconds = seconds
        self._concurrency = concurrency
        self._progress = progress

    async def run(self, model: str) -> Calibration:
        """Raises CalibrationError."""
        try:
            prefill = await self._measure("prefill", await self._long_prompt())
            decode = await self._measure("decode", await self._long_answer())
        except (Refused, Overloaded) as error:
            raise CalibrationError(str(error)) from error
        prefill_rate = prefill.last.input_tokens_per_s
        if not prefill_rate:
            raise CalibrationError(f"model '{model}' had every prompt in its prefix cache, although they were random")
        if not decode.last.output_tokens_per_s:
            raise CalibrationError(f"model '{model}' answered without a token")
        return Calibration(model, prefill_rate, decode_rate(decode.last, prefill_rate), prefill, decode)

    async def _long_prompt(self) -> Work:
        """As long as usual prompts, or as the model takes. A word has at least one token."""
        target = PROMPT_TOKENS
        if self._config.context_tokens:
            target = min(target, max(1, int(self._config.context_tokens * SHARE_OF_CONTEXT)))
        words = target // 2 or 1
        while True:
            try:
                tokens = (await self._asker.ask(Work(words, 1))).input_tokens
                break
            except Refused:
                if words == 1:
                    raise
                words //= 2
        if words < target // 2:
            return Work(words, 1)
        fitting = max(1, min(target, round(words * target / max(1, tokens))))
        with contextlib.suppress(Refused):
            await self._asker.ask(Work(fitting, 1))
            return Work(fitting, 1)
        return Work(words, 1)

    async def _long_answer(self) -> Work:
        """The longest answer that the model agrees to give, not ended early where it can be told so."""
        limit = self._config.max_output_tokens or ANSWER_TOKENS[0]
        works = [
            Work(SHORT_PROMPT_WORDS, min(tokens, limit), ignore_eos)
            for tokens in ANSWER_TOKENS
            for ignore_eos in (True, False)
        ]
        for work in works[:-1]:
            with contextlib.suppress(Refused):
                await self._asker.ask(work)
                return work
        await self._asker.ask(works[-1])
        return works[-1]

    async def _measure(self, phase: Phase, work: Work) -> Measurement:
        levels = [] if self._concurrency else await self._search(phase, work)
        best = self._concurrency or _least_that_is_enough(levels, phase)
        last, done = await self._load_what_it_takes(phase, work, best)
        return Measurement(
            last,
            levels,
            sum(usage.input_tokens for usage in done) // len(done),
            sum(usage.output_tokens for usage in done) // len(done),
        )

    async def _load_what_it_takes(self, phase: Phase, work: Work, concurrency: int) -> tuple[Level, list[Usage]]:
        """What it took for a moment may be too much for longer; a concurrency that was asked for stays."""
        while True:
            try:
                return await self._load(phase, work, concurrency, self._seconds)
            except Overloaded:
                if self._concurrency or concurrency == 1:
                    raise
                concurrency //= 2

    async def _search(self, phase: Phase, work: Work) -> list[Level]:
        """Twice as many at a time, until that brings nothing or the model has enough."""
        levels: list[Level] = []
        concurrency = 1
        while concurrency <= LARGEST_CONCURRENCY:
            try:
                level, _ = await self._load(phase, work, concurrency, self._seconds * SWEEP_SHARE)
            except (Overloaded, CalibrationError):
                if not levels:
                    raise
                break
            levels.append(level)
            if _has_peaked([level.rate(phase) for level in levels]):
                break
            concurrency *= 2
        return levels

    async def _load(self, phase: Phase, work: Work, concurrency: int, seconds: float) -> tuple[Level, list[Usage]]:
        """Keep so many requests running for some time. All their tokens count, until the last of them has ended.

        That is a little too low, for the last ones run with fewer beside them; a window in the middle would be too
        high where requests wait in the model's queue, because nobody sees when their tokens come.
        """
        begin = time.monotonic()
        end = begin + seconds
        done: list[Usage] = []
        failed = asyncio.Event()
        asking = (self._keep_asking(work, end, done, failed) for _ in range(concurrency))
        with _bar(self._progress, f"{phase}, {concurrency} at a time", seconds) as advance:
            ticking = asyncio.create_task(_tick(advance))
            try:
                # All of them, also when one fails: what was left behind would run beside the next measurement.
                outcomes = await asyncio.gather(*asking, return_exceptions=True)
            finally:
                ticking.cancel()
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        return throughput(done, concurrency, time.monotonic() - begin), done

    async def _keep_asking(self, work: Work, end: float, done: list[Usage], failed: asyncio.Event) -> None:
        try:
            while time.monotonic() < end and not failed.is_set():
                done.append(await self._asker.ask(work))
        except BaseException:
            failed.set()
            raise


def _least_that_is_enough(levels: list[Level], phase: Phase) -> int:
    """More at a time than that would only wait for each other."""
    enough = max(level.rate(phase) for level in levels) / GROWTH
    return next(level.concurrency for level in levels if level.rate(phase) >= enough)


def _has_peaked(rates: list[float]) -> bool:
    """Whether the last two brought nothing: one alone may be noise."""
    return len(rates) > LEVELS_WITHOUT_GROWTH and max(rates[-LEVELS_WITHOUT_GROWTH:]) < GROWTH * max(
        rates[:-LEVELS_WITHOUT_GROWTH]
    )


def throughput(done: list[Usage], concurrency: int, seconds: float) -> Level:
    """What these answers amount to."""
    fresh = sum(max(0, usage.input_tokens - usage.cached_tokens) for usage in done)
    return Level(concurrency, seconds, fresh / seconds, sum(usage.output_tokens for usage in done) / seconds)


def decode_rate(level: Level, prefill_tokens_per_s: float) -> float:
    """Output tokens per second of the time that was left for decoding.

    The prompts of the decode phase took prefill too: by the price's own formula their share of the time is their rate
    over the prefill rate, so that a full machine earns exactly its bill.
    """
    prefilling = level.input_tokens_per_s / prefill_tokens_per_s
    return level.output_tokens_per_s / (1 - prefilling) if prefilling < PREFILL_AT_MOST else level.output_tokens_per_s


def run_calibrate(
    config_path: Path, name: str, seconds: float, concurrency: int | None, machines: Machines, *, as_json: bool
) -> str:
    """Measure a model and say what to paste. Raises ConfigError, CalibrationError."""
    settings = load(config_path, upstream_keys=False)
    config = settings.config.models.get(name)
    if config is None:
        raise ConfigError(f"models: unknown model '{name}'; known: {', '.join(settings.config.models)}")
    if config.api_key_env and name not in settings.secrets.upstream:
        raise ConfigError(f"models.{name}.api_key_env: the environment has no {config.api_key_env}")
    logging.getLogger("distill_router").addHandler(logging.NullHandler())  # what fails is told once, at the end
    measured = asyncio.run(_calibrate(name, config, settings.secrets.upstream.get(name), seconds, concurrency))
    machines = machines.or_those_of(config)
    return _json(measured, machines) if as_json else _yaml(measured, config, machines)


async def _calibrate(
    name: str, config: Model, api_key: SecretStr | None, seconds: float, concurrency: int | None
) -> Calibration:
    unbounded = {"max_in_flight": LARGEST_CONCURRENCY, "max_connections": LARGEST_CONCURRENCY, "retries": 0}
    client = ModelClient(name, config.model_copy(update=unbounded), api_key)
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), console=console, transient=True, disable=not console.is_terminal
    )
    try:
        with progress:
            return await Calibrator(Asker(name, config, client), config, seconds, concurrency, progress).run(name)
    finally:
        await client.close()


@contextlib.contextmanager
def _bar(progress: Progress, text: str, seconds: float) -> Iterator[Callable[[], None]]:
    """A bar for one measurement, on a terminal."""
    task = progress.add_task(text, total=seconds)
    try:
        yield lambda: progress.advance(task, TICK_S)
    finally:
        progress.remove_task(task)


async def _tick(advance: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        advance()


def _json(measured: Calibration, machines: Machines) -> str:
    return json.dumps(asdict(measured) | {"price": machines.block(measured)}, indent=2)


def _yaml(measured: Calibration, config: Model, machines: Machines) -> str:
    """The block to paste; what was measured stands above it as comments."""
    block = machines.block(measured)
    lines = [
        f"# {measured.model} at {_shown(config)}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        _measured("prefill", measured.prefill, f"prompts of {measured.prefill.input_tokens} tokens"),
        _measured("decode", measured.decode, f"answers of {measured.decode.output_tokens} tokens"),
        *_why_decode_differs(measured),
        *_costs(block),
        yaml.safe_dump({"models": {measured.model: {"price": block}}}, sort_keys=False).rstrip(),
    ]
    return "\n".join(lines)


def _measured(phase: Phase, measurement: Measurement, requests: str) -> str:
    last = measurement.last
    search = ", ".join(f"{level.concurrency}: {level.rate(phase):.0f}" for level in measurement.levels)
    searched = f"; tokens/s by requests at a time: {search}" if search else ""
    return f"# {phase}: {last.rate(phase):.0f} tokens/s with {requests}, {last.concurrency} at a time{searched}"


def _why_decode_differs(measured: Calibration) -> list[str]:
    """See `decode_rate`."""
    observed = measured.decode.last.output_tokens_per_s
    share = 1 - observed / measured.decode_tokens_per_s
    if _significant(observed) == _significant(measured.decode_tokens_per_s):
        return []
    return [
        f"# decode_tokens_per_s is more than these {observed:.0f}: the prompts of this measurement took {share:.1%} of "
        "its time, and a request pays for its prompt by itself"
    ]


def _costs(block: dict[str, Any]) -> list[str]:
    """What that comes to, where the price of the machines is known."""
    if FILL_IN in block.values():
        return [f"# {FILL_IN}: what one GPU costs (USD an hour), and how many serve this model, all replicas together"]
    try:
        prices = price_list(GpuPrice(**block))
    except ValidationError as error:
        raise CalibrationError("; ".join(problem["msg"] for problem in error.errors())) from error
    return [
        f"# a million tokens of input cost {prices.input / NANO_PER_USD:.6g} USD, "
        f"of output {prices.output / NANO_PER_USD:.6g} USD; an hour {prices.per_hour / NANO_PER_USD:.6g} USD"
    ]


def _significant(rate: float) -> float:
    """Four digits are more than a measurement knows."""
    rounded = float(f"{rate:.4g}")
    return int(rounded) if rounded.is_integer() else rounded


def _shown(config: Model) -> str:
    """The addresses without what is secret in them."""
    return ", ".join(re.sub(r"//[^/@]*@", "//", url) for url in config.base_urls)
