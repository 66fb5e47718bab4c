"""A gateway with two workers under the demo's workload, a Prometheus that scrapes it, and all that is asked of it."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.cli.demo import demo_config
from serving.demo.tasks import workload
from tests.metrics.expressions import (
    ALERTS,
    RULES,
    Expression,
    alerts,
    faster,
    filled_in,
    panels,
    recorded,
    without_comparison,
)
from tests.metrics.prometheus import Prometheus, Promtool
from tests.support.gateway import NO_CERTIFICATES
from tests.support.router_process import PATIENCE_S, Router
from tests.surface.fixtures import Served

# The lag of an archive: Redis counts it from version 7 on, and the bundled one is older.
NO_DATA = {"health: Archive behind A", "DistillRouterArchiveBehind"} | {
    "policies: Trained versions A"  # nothing is promoted
}
CLIENTS = 4
APP, LIMITED, ADMIN = "sk-app", "sk-limited", "sk-admin"
GPU_PRICE = {
    "price_per_gpu_hour_usd": 2.5,
    "gpus": 1,
    "capacity": {"prefill_tokens_per_s": 20_000, "decode_tokens_per_s": 1_500},
}
BUDGETS = {
    "month": {"window": "month", "limit_usd": 100, "target_usd": 80},
    "tenants": {"each": "tenant", "window": "1h", "limit_usd": 10},
}


def configuration(folder: Path, models: dict[str, Served]) -> dict[str, Any]:
    """The demo's, with keys, budgets and a student on a GPU of its own; every pair asks the teacher twice."""
    config: dict[str, Any] = demo_config(folder, 0, 0, 0)
    for name, served in models.items():
        config["models"][name]["base_urls"] = [served.url]
    config["models"]["student"]["price"] = GPU_PRICE
    config["routes"]["auto"]["audit"] |= {"second_draw": 1.0}
    floor = {"alpha": 0.3, "min_audits": 20, "shadow_rate": 1.0}
    auto = config["routes"]["auto"]
    config["routes"]["controlled"] = auto | {"policy": auto["policy"] | {"floor": floor, "pace": "month"}}
    taught = {"policy": {"kind": "difficulty", "threshold": 0.3}, "training": {"every": "30d"}}
    config["routes"]["taught"] = auto | taught
    config["retention"] = {"min_pairs": 2}
    key = {"name": "app", "sha256": sha256(APP.encode()).hexdigest(), "tenant": "acme"}
    limited = {"name": "limited", "sha256": sha256(LIMITED.encode()).hexdigest(), "requests_per_minute": 1}
    admin = {"name": "prometheus", "sha256": sha256(ADMIN.encode()).hexdigest(), "permissions": ["admin"]}
    return config | {
        "server": {"auth": "keys", "metrics": "admin"},
        "keys": [key, limited, admin],
        "budgets": BUDGETS,
        "ledger": {"state_dir": str(folder / "ledger")},
    }


@contextlib.contextmanager
def traffic(url: str) -> Iterator[None]:
    """The demo's workload from some clients at a time, for as long as the context lasts."""
    stop = threading.Event()
    numbers = itertools.count()
    examples = workload(500, 7)

    def client() -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE_S, verify=NO_CERTIFICATES) as http:
            while not stop.is_set():
                number = next(numbers)
                example = examples[number % len(examples)]
                route = "controlled" if number % 4 == 2 else "auto"
                body: dict[str, Any] = {"model": route, "messages": [{"role": "user", "content": example.prompt}]}
                body |= {"temperature": 0, "stream": number % 2 == 1}
                if example.tools:
                    body["tools"] = list(example.tools)
                key = LIMITED if number % 10 == 0 else APP
                headers = {"authorization": f"Bearer {key}", "x-router-no-store": str(int(number % 10 == 5))}
                http.post("/v1/chat/completions", json=body, headers=headers)

    threads = [threading.Thread(target=client, name=f"client {number}") for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, embedded_models: dict[str, Served]) -> Iterator[Prometheus]:
    """Scrapes a busy gateway, with the rules' hours shortened to seconds."""
    folder = tmp_path_factory.mktemp("prometheus")
    rules = []
    for path in (RULES, ALERTS):
        rules.append(folder / path.name)
        rules[-1].write_text(faster(path.read_text()))
    with (
        Router(folder, configuration(folder, embedded_models), "--workers", "2") as router,
        traffic(router.url),
        Prometheus(folder, router.url.removeprefix("http://"), rules, ADMIN) as prometheus,
    ):
        yield prometheus


def unanswered(prometheus: Prometheus, expressions: list[Expression]) -> dict[str, str]:
    """What has no data after a long wait, by its name. Data: at least one finite value."""
    waiting = {expression.where: expression.text for expression in expressions}
    deadline = time.monotonic() + PATIENCE_S
    while waiting and time.monotonic() < deadline:
        waiting = {where: text for where, text in waiting.items() if not prometheus.query(text)}
        time.sleep(0.1)
    return waiting


def test_every_panel_answers_with_data(prometheus: Prometheus) -> None:
    queries = [Expression(panel.where, filled_in(panel.text)) for panel in panels() if panel.where not in NO_DATA]
    assert unanswered(prometheus, queries) == {}


def test_every_recorded_series_has_data(prometheus: Prometheus) -> None:
    assert unanswered(prometheus, [Expression(rule.where, rule.where) for rule in recorded()]) == {}


def test_every_alert_reads_what_is_there(prometheus: Prometheus) -> None:
    queries = [
        Expression(alert.where, without_comparison(faster(alert.text)))
        for alert in alerts()
        if alert.where not in NO_DATA
    ]
    assert unanswered(prometheus, queries) == {}


def test_prometheus_finds_no_rule_at_fault(prometheus: Prometheus) -> None:
    faults = {rule["name"]: rule.get("lastError", "") for rule in prometheus.rules() if rule["health"] == "err"}
    assert faults == {}
    assert len(prometheus.rules()) == len(recorded()) + len(alerts())


def test_promtool_finds_nothing_wrong_with_what_several_workers_expose(
    promtool: Promtool, prometheus: Prometheus
) -> None:
    assert promtool.run("check", "metrics", stdin=prometheus.exposition()) == ""
