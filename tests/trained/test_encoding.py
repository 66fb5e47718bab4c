"""A route with an encoder: what tells its requests apart is in their vectors alone, in training and live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as aioredis
import yaml

from policies.learn import artifact
from policies.learn.trained import Trained
from router.errors import ConfigError
from router.evidence.records import PairRecord
from router.server import load_last_good, load_usable
from router.settings import LAST_GOOD, Settings, parse
from router.trained import follower
from router.trained.encoders import encoder_of
from router.trained.examples import example_of
from router.trained.record import record_of
from router.trained.retrain import retrain
from router.trained.settings import Training
from router.trained.store import TrainedStore
from router.trained.train import options_for, train
from tests.support.gateway import RunningGateway, eventually, running_gateway, two_models
from tests.support.pairs import pair, spool_pairs
from tests.support.scripted import Reply, ScriptedUpstream
from tests.trained.embedder import Embedder, serving
from tests.trained.test_retrain import recent

NAME = "auto:difficulty"
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gia", "Hal")


def text_of(number: int) -> str:
    """Even numbers are hard; written so that no word says so twice."""
    return f"Tell {NAMES[number // 2 % 8]} about case {number * 7919:x}"


def hard(text: str) -> bool:
    return int(text.split()[-1], 16) % 2 == 0


@pytest.fixture
def embedder() -> Iterator[Embedder]:
    with serving(lambda text: [1.0 if text[:4] == "Tell" and hard(text) else -1.0, 0.5]) as server:
        yield server


def config(url: str, embedder: Embedder, redis_url: str) -> dict[str, Any]:
    route = {"encoder": {"kind": "embeddings", "model": "embedder", "timeout_s": 20}}
    found = two_models(url, url, policy={"kind": "difficulty", "threshold": 0.5}, route=route, redis={"url": redis_url})
    base_urls = [embedder.url]
    found["models"]["embedder"] = {"base_urls": base_urls, "price": {"input": 0, "output": 0}}
    return found


def told(number: int) -> PairRecord:
    text = text_of(number)
    request = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    return pair(number, harm=hard(text)).model_copy(update={"request": request})


def learned(settings: Settings) -> Trained:
    examples = [example_of(told(number)) for number in range(120)]
    options = options_for(settings.config.routes["auto"].policy, "difficulty", encoder_of(settings, "auto"))
    return train("difficulty", examples, options=options)


async def ask(gw: RunningGateway, number: int) -> str:
    answer = await gw.ask("chat", messages=[{"role": "user", "content": text_of(number)}])
    return answer.headers["x-router-model"]


@pytest.fixture
async def upstream() -> Any:
    async with ScriptedUpstream(default=Reply("hello")) as upstream:
        yield upstream


async def test_decisions_follow_the_vectors_and_are_made_without_them_where_none_come(
    upstream: ScriptedUpstream,
    embedder: Embedder,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(follower, "FOLLOW_EVERY_S", 0.01)
    written = config(upstream.url, embedder, redis_url)
    trained = learned(parse(yaml.safe_dump(written), {}))
    async with running_gateway(written, redis_url=redis_url) as gw:
        async with aioredis.Redis.from_url(redis_url) as client:
            store = TrainedStore(client.eval)
            await store.promote(NAME, await store.put(NAME, artifact.dumps(trained), record_of(trained, "train", 0.0)))
        await eventually(lambda: gw.metric("trained_policy_workers", policy=NAME, version=trained.version) == 1)
        assert [await ask(gw, number) for number in (200, 201, 202, 203)] == ["teacher", "student"] * 2
        embedder.answer = (503, b"")
        for number in (300, 301, 302):
            await ask(gw, number)
        assert [row.o for row in await gw.rows(7)] == ["ok"] * 7
    assert len([message for message in caplog.messages if "answered 503" in message]) == 1


async def test_a_reload_may_bring_an_encoder_and_take_it_away(
    upstream: ScriptedUpstream, embedder: Embedder, redis_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "router.yaml"
    written = config(upstream.url, embedder, redis_url)
    encoder = written["routes"]["auto"].pop("encoder")
    path.write_text(yaml.safe_dump(written))
    async with running_gateway(written, redis_url=redis_url, config_path=path) as gw:
        slot = next(iter(gw.gateway._standing.slots))
        assert slot.encode is None
        written["routes"]["auto"]["encoder"] = encoder
        path.write_text(yaml.safe_dump(written))
        assert await gw.gateway.reload()
        with_encoder = slot.encode
        assert with_encoder is not None and await gw.gateway.reload() and slot.encode == with_encoder
        written["routes"]["auto"]["encoder"] = {"kind": "onnx", "model": "none.onnx", "tokenizer": "none.json"}
        path.write_text(yaml.safe_dump(written))
        assert not await gw.gateway.reload() and slot.encode == with_encoder
        del written["routes"]["auto"]["encoder"]
        path.write_text(yaml.safe_dump(written))
        assert await gw.gateway.reload() and slot.encode is None


def test_scheduled_training_takes_the_vectors_too(embedder: Embedder, redis_url: str, tmp_path: Path) -> None:
    written = config("http://127.0.0.1/v1", embedder, redis_url) | {"evidence": {"spool_dir": str(tmp_path / "spool")}}
    spool_pairs(tmp_path / "spool", recent([told(number) for number in range(240)]))
    outcome = retrain(parse(yaml.safe_dump(written), {}), "auto", "difficulty", Training())
    assert outcome.result == "promoted", outcome


@pytest.fixture
def unusable(tmp_path: Path) -> dict[str, Any]:
    """A configuration whose encoder's files are not there."""
    url = "http://127.0.0.1:9/v1"
    files = {"model": str(tmp_path / "none.onnx"), "tokenizer": str(tmp_path / "none.json")}
    policy = {"kind": "difficulty", "threshold": 0.5, "file": str(tmp_path / "none.policy")}
    return two_models(url, url, policy=policy, route={"encoder": {"kind": "onnx", **files}})


def test_an_encoder_whose_files_cannot_be_used_stops_the_start_and_names_its_place(
    unusable: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(unusable))
    with pytest.raises(ConfigError, match=r"routes\.auto\.encoder: "):
        load_usable(path)


def test_a_new_worker_takes_what_the_others_have_and_not_a_file_with_an_encoder_that_they_refused(
    unusable: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(unusable))
    del unusable["routes"]["auto"]["encoder"]
    (tmp_path / LAST_GOOD).write_text(yaml.safe_dump(unusable))
    assert load_last_good(path, tmp_path).config.routes["auto"].encoder is None


async def test_a_worker_whose_encoder_has_gone_since_the_start_answers_without_it(
    unusable: dict[str, Any], upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    unusable["models"]["teacher"]["base_urls"] = [upstream.url]
    async with running_gateway(unusable) as gw:
        assert await ask(gw, 0) == "teacher"
    assert "this worker decides without the vectors of encoders: routes.auto.encoder: " in caplog.text


def test_an_encoder_that_cannot_be_asked_or_has_no_use_is_refused(embedder: Embedder, redis_url: str) -> None:
    written = config("http://127.0.0.1/v1", embedder, redis_url)
    written["routes"]["auto"]["encoder"]["model"] = "none"
    written["routes"]["auto"]["policy"] = {"kind": "fixed", "model": "teacher"}
    with pytest.raises(ConfigError) as refused:
        parse(yaml.safe_dump(written), {})
    assert "routes.auto.encoder.model: unknown model 'none'" in str(refused.value)
    assert "routes.auto.encoder: policy 'fixed' has no use for it" in str(refused.value)
