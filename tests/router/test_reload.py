"""The configuration changes under a running gateway: what is new, what stays, what running requests keep."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import HI, RunningGateway, eventually, running_gateway, two_models
from tests.support.scripted import Held, Reply, ScriptedUpstream, failing

Json = dict[str, Any]
CASCADE = {"kind": "cascade", "escalate_at": 0.5}


def write(path: Path, config: Json | str) -> None:
    path.write_text(config if isinstance(config, str) else json.dumps(config))


def change(path: Path, config: Json | str) -> None:
    """Without waiting for the file to be noticed."""
    write(path, config)
    os.kill(os.getpid(), signal.SIGHUP)


@pytest.fixture
def config(teacher: ScriptedUpstream, student: ScriptedUpstream) -> Json:
    return two_models(teacher.url, student.url, policy={"kind": "fixed", "model": "student"})


@asynccontextmanager
async def reloading(config: Json, path: Path) -> AsyncIterator[RunningGateway]:
    """The gateway, and its configuration in a file."""
    async with running_gateway(config, config_path=path) as gateway:
        write(path, gateway.gateway.runtime.settings.text)
        yield gateway


async def reloaded(gateway: RunningGateway, result: str = "ok", times: int = 1) -> None:
    await eventually(lambda: gateway.metric("config_reloads_total", result=result) >= times, f"{times} {result}")


def with_route(config: Json, name: str) -> Json:
    return config | {"routes": config["routes"] | {name: config["routes"]["auto"]}}


def in_place(path: Path, config: Json) -> None:
    write(path, config)


def by_rename(path: Path, config: Json) -> None:
    write(path.with_suffix(".new"), config)
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("replace", [in_place, by_rename])
async def test_a_changed_file_is_noticed(replace: Callable[[Path, Json], None], config: Json, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    async with reloading(config, path) as gateway:
        assert (await gateway.ask("chat", "other")).status_code == 404
        replace(path, with_route(config, "other"))
        await reloaded(gateway)
        assert (await gateway.ask("chat", "other")).status_code == 200
        assert "other" in [model.id for model in (await gateway.openai.models.list()).data]


async def test_a_swapped_symlink_is_noticed_as_kubernetes_replaces_a_config_map(config: Json, tmp_path: Path) -> None:
    """`router.yaml -> ..data/router.yaml`, `..data -> ..generation`: the middle link is replaced by a rename."""
    for generation in ("..1", "..2"):
        (tmp_path / generation).mkdir()
    write(tmp_path / "..2" / "router.yaml", with_route(config, "other"))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "router.yaml").symlink_to("..data/router.yaml")
    async with reloading(config, tmp_path / "router.yaml") as gateway:
        assert (tmp_path / "..1" / "router.yaml").exists()
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        await reloaded(gateway)
        assert (await gateway.ask("chat", "other")).status_code == 200


async def test_a_removed_route_is_not_found_any_more(config: Json, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    async with reloading(with_route(config, "other"), path) as gateway:
        assert (await gateway.ask("chat", "other")).status_code == 200
        change(path, config)
        await reloaded(gateway)
        answer = await gateway.ask("chat", "other")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_bad_file_keeps_the_old_configuration_and_says_so(
    config: Json, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "router.yaml"
    async with reloading(config, path) as gateway:
        assert gateway.metric("config_last_reload_successful") == 1
        before = gateway.gateway.runtime
        with caplog.at_level(logging.ERROR, "distill_router"):
            change(path, "server: {auth: perhaps}\nmodels: {}")
            await reloaded(gateway, "refused")
        assert gateway.gateway.runtime is before
        assert gateway.metric("config_last_reload_successful") == 0
        assert "server.auth" in caplog.text and "the old one stays" in caplog.text
        assert (await gateway.ask("chat")).status_code == 200
        change(path, with_route(config, "other"))
        await reloaded(gateway)
        assert gateway.metric("config_last_reload_successful") == 1


async def test_a_file_that_is_not_watched_reloads_on_sighup_only(config: Json, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    unwatched = config | {"server": {"auth": "none", "reload": False}}
    async with reloading(unwatched, path) as gateway:
        change(path, with_route(unwatched, "other"))
        await reloaded(gateway)
        assert (await gateway.ask("chat", "other")).status_code == 200


async def test_running_requests_finish_on_the_configuration_they_began_with(
    config: Json, student: ScriptedUpstream, tmp_path: Path
) -> None:
    path = tmp_path / "router.yaml"
    held, streaming = Held(Reply("old answer")), Held(Reply("old stream"))
    async with ScriptedUpstream(default=Reply("new answer")) as new, reloading(config, path) as gateway:
        student.script(held, streaming)
        plain = asyncio.create_task(gateway.ask("chat"))
        await student.arrived(1)
        stream = asyncio.create_task(gateway.ask("chat", stream=True))
        await student.arrived(2)
        changed = json.loads(json.dumps(config))
        changed["models"]["student"]["base_urls"] = [new.url]
        change(path, changed)
        await reloaded(gateway)
        assert (await gateway.ask("chat")).json()["choices"][0]["message"]["content"] == "new answer"
        assert student.open_connections >= 2
        held.go.set()
        streaming.go.set()
        assert (await plain).json()["choices"][0]["message"]["content"] == "old answer"
        assert (await stream).text.endswith("data: [DONE]\n\n")
        await eventually(lambda: student.open_connections == 0, "the old model's connections closed")


async def test_a_cascade_that_is_running_can_still_escalate_to_the_model_it_began_with(
    config: Json, teacher: ScriptedUpstream, student: ScriptedUpstream, tmp_path: Path
) -> None:
    path = tmp_path / "router.yaml"
    held = Held(Reply("doubtful", token_logprob=-3.0))
    config["routes"]["auto"]["policy"] = CASCADE
    config["models"]["student"]["supports"] = ["logprobs"]
    async with ScriptedUpstream() as new, reloading(config, path) as gateway:
        student.script(held)
        running = asyncio.create_task(gateway.ask("chat"))
        await student.arrived(1)
        changed = json.loads(json.dumps(config))
        changed["models"]["teacher"]["base_urls"] = [new.url]
        change(path, changed)
        await reloaded(gateway)
        held.go.set()
        answer = await running
        assert answer.json()["choices"][0]["message"]["content"] == "from the teacher", answer.text
        assert answer.headers["x-router-reason"] == "escalated"
        await eventually(lambda: teacher.open_connections == 0, "the old teacher's connections closed")


async def test_an_unchanged_model_keeps_its_connections_and_its_circuit(
    config: Json, teacher: ScriptedUpstream, student: ScriptedUpstream, tmp_path: Path
) -> None:
    path = tmp_path / "router.yaml"
    config["models"]["student"]["circuit"] = {"failures": 1, "open_s": 3600}
    async with reloading(config, path) as gateway:
        student.script(failing(500, "broken"))
        assert (await gateway.ask("chat")).status_code == 200
        models = dict(gateway.gateway.runtime.models)
        connections = teacher.open_connections
        change(path, with_route(config, "other"))
        await reloaded(gateway)
        assert gateway.gateway.runtime.models == models
        assert models["student"].replicas[0].circuit.is_open
        answer = await gateway.ask("chat", "other")
        assert answer.headers["x-router-reason"] == "down:student"
        assert teacher.open_connections == connections
        assert len(student.requests) == 1


async def test_a_model_that_is_gone_leaves_no_gauge_behind(config: Json, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    config["models"]["third"] = config["models"]["student"]
    async with reloading(config, path) as gateway:
        await eventually(lambda: 'upstream_healthy{model="third"' in exposition(gateway), "the gauge")
        del config["models"]["third"]
        change(path, config)
        await reloaded(gateway)
        for gauge in ("upstream_healthy", "circuit_open", "in_flight"):
            assert f'{gauge}{{model="third"' not in exposition(gateway)


async def test_a_key_that_is_removed_stops_working(config: Json, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    digest = "".join(["8bf3a9", "0" * 58])
    config |= {"server": {"auth": "keys"}, "keys": [{"name": "ci", "sha256": digest}]}
    async with reloading(config, path) as gateway:
        assert (await gateway.post("/v1/chat/completions", {"model": "auto", "messages": HI})).status_code == 401
        change(path, config | {"server": {"auth": "none"}, "keys": []})
        await reloaded(gateway)
        assert (await gateway.post("/v1/chat/completions", {"model": "auto", "messages": HI})).status_code == 200


def exposition(gateway: RunningGateway) -> str:
    return gateway.gateway.metrics.exposition().decode()
