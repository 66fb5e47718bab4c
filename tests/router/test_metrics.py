"""Every series of the gateway shows up where something reads it, under the names of the documentation."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from router.record.metrics import PREFIX, Metrics, PolicyInfo, RouteInfo
from tests.support.gateway import API_KEY, PATHS, RunningGateway, ask, eventually, running_gateway, two_models
from tests.support.scripted import Reply, ScriptedUpstream, Usage, failing

NAMES = {
    *("requests", "decisions", "decision_seconds", "overhead_seconds", "request_seconds"),
    *("time_to_first_token_seconds", "time_per_output_token_seconds", "tokens", "cost_usd", "teacher_only_cost_usd"),
    *("usage_missing", "comparisons", "disagreements", "records_dropped", "upstream_healthy", "circuit_open"),
    *("in_flight", "pair_teacher_cost_usd", "pair_teacher_estimate_usd", "route_info"),
}
GPU_PRICE = {
    "price_per_gpu_hour_usd": 2.5,
    "gpus": 1,
    "capacity": {"prefill_tokens_per_s": 20_000, "decode_tokens_per_s": 1_500},
}
CASCADE = {"kind": "cascade", "escalate_at": 0.5}
CONTROLLED = {"kind": "difficulty", "threshold": 0.5, "floor": {}, "pace": "daily"}
ABSENT = {PREFIX + "archive_lag_records", PREFIX + "trained_policy_workers"}
"""Need an archive, and a version that was promoted."""


def registered(metrics: Metrics) -> set[str]:
    return {family.name for family in metrics.registry.collect()}


def exposed(gateway: RunningGateway) -> set[str]:
    """The names of the families that have samples."""
    text = gateway.gateway.metrics.exposition().decode()
    return {family.name for family in text_string_to_metric_families(text) if family.samples}


def test_the_names_are_those_of_the_documentation() -> None:
    assert {PREFIX + name for name in NAMES} <= registered(Metrics())


def test_names_carry_base_units_and_help() -> None:
    for family in Metrics().registry.collect():
        assert family.name.startswith(PREFIX) and family.documentation.endswith(".")
        assert not re.search(r"_(ms|milliseconds|total|kb|percent)$", family.name)
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_every_attribute_is_one_of_the_three_kinds_or_collects_itself() -> None:
    metrics = Metrics()
    known = Counter | Gauge | Histogram | RouteInfo | PolicyInfo
    kinds = [value for value in vars(metrics).values() if isinstance(value, known)]
    assert len(kinds) == len(registered(metrics))


async def test_every_series_shows_up_under_mixed_traffic(
    teacher: ScriptedUpstream, student: ScriptedUpstream, redis_url: str
) -> None:
    config: dict[str, Any] = two_models(
        teacher.url, student.url, policy=CASCADE, route={"audit": {"rate": 1.0, "max_in_flight": 1}}
    )
    for model in config["models"].values():
        model |= {"supports": ["logprobs"], "retries": 1, "context_tokens": 512}
    config["models"]["spare"] = {"base_urls": [teacher.url], "price": GPU_PRICE, "context_tokens": 512}
    config |= {"redis": redis_url, "budgets": {"daily": {"window": "day", "limit_usd": 9, "target_usd": 8}}}
    arms = {"teacher": "teacher", "student": "student"}
    config["routes"]["hard"] = {**arms, "policy": CONTROLLED, "training": {"every": "30d"}}
    key = {"name": "ci", "sha256": sha256(API_KEY.encode()).hexdigest(), "requests_per_minute": 6}
    config |= {"server": {"auth": "keys"}, "keys": [key]}
    long = Usage(20, 5, cached_tokens=4, reasoning_tokens=1)
    student.default = Reply("sure enough to be served", usage=long, token_logprob=-0.01)
    async with running_gateway(config, redis_url=redis_url) as gateway:
        gateway.http.headers["authorization"] = f"Bearer {API_KEY}"
        for stream in (False, True):
            await gateway.ask("chat", stream=stream)
            await gateway.idle()
        await gateway.post(PATHS["chat"], ask("chat"), x_router_no_store="1")
        student.script(Reply("doubtful", token_logprob=-5.0))
        await gateway.ask("chat")
        await gateway.idle()
        student.script(failing(500, "broken"), failing(500, "broken"))
        await gateway.ask("chat")
        student.script(Reply("no usage", usage=None, token_logprob=-0.01))
        await gateway.ask("chat")
        await gateway.idle()
        while (await gateway.ask("chat")).status_code != 429:
            await gateway.idle()
        wanted = registered(gateway.gateway.metrics) - ABSENT
        await eventually(lambda: wanted <= exposed(gateway), f"{wanted - exposed(gateway)}")
        page = await gateway.http.get("/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        assert gateway.metric("tokens_total", kind="cached_input") >= 4
        origins = set(re.findall(r'cost_usd_total{[^}]*origin="(\w+)"', page.text))
        assert {"serve", "shadow", "escalation"} <= origins


async def test_labels_come_from_the_configuration_only(teacher: ScriptedUpstream, student: ScriptedUpstream) -> None:
    async with running_gateway(two_models(teacher.url, student.url)) as gateway:
        await gateway.ask("chat", "made-up")
        before = exposed(gateway)
        for number in range(20):
            await gateway.ask("chat", f"made-up-{number}")
        assert "made-up" not in gateway.gateway.metrics.exposition().decode()
        assert exposed(gateway) == before
        assert gateway.metric("requests_total", outcome="rejected") == 21
