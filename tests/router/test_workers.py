"""`serve --workers 2`: metrics add up, a worker that dies is replaced, a reload reaches all of them."""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.gateway import HI, two_models
from tests.support.router_process import Router, gone, until
from tests.support.server_process import HOST
from tests.support.steps import HANG
from tests.support.upstream_thread import UpstreamThread

WORKERS = 2
REQUESTS = 24
SCRAPES = 12


@pytest.fixture
def upstream() -> Iterator[UpstreamThread]:
    with UpstreamThread() as upstream:
        yield upstream


@pytest.fixture
def config(upstream: UpstreamThread, tmp_path: Path) -> dict[str, Any]:
    config = two_models(upstream.url, upstream.url, evidence={"spool_dir": str(tmp_path / "spool")})
    return config | {"server": {"auth": "none", "reload": False}}


@pytest.fixture
def router(config: dict[str, Any], tmp_path: Path) -> Iterator[Router]:
    with Router(tmp_path, config, "--workers", str(WORKERS)) as router:
        until(lambda: startups(router) == WORKERS, "two workers")
        yield router


def startups(router: Router) -> int:
    return router.log.read_text().count("Application startup complete")


def served(router: Router, model: str = "auto") -> list[int]:
    """The statuses of requests on connections of their own, which spread over the workers."""
    return [router.ask(model)[0] for _ in range(REQUESTS)]


def with_another_route(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"routes": config["routes"] | {"other": config["routes"]["auto"]}}


def worker_of(router: Router, connection: http.client.HTTPConnection) -> psutil.Process:
    port = connection.sock.getsockname()[1]
    (worker,) = [
        worker
        for worker in router.workers()
        if any(link.raddr and link.raddr.port == port for link in worker.net_connections("tcp"))
    ]
    return worker


def test_every_scrape_sees_the_requests_of_all_workers(router: Router) -> None:
    assert served(router) == [200] * REQUESTS
    totals = [router.metric("requests_total", route="auto", outcome="ok") for _ in range(SCRAPES)]
    assert totals == [REQUESTS] * SCRAPES
    assert router.metric("request_seconds_count", route="auto") == REQUESTS
    assert router.metric("config_last_reload_successful") == 1
    until(lambda: router.metric("in_flight") == 0, "nothing in flight")
    assert router.metric("upstream_healthy", model="student") == 1
    assert all("pid" not in labels for labels, _ in router.series("in_flight"))


def test_a_killed_worker_is_replaced_its_counts_stay_and_its_live_gauges_vanish(
    upstream: UpstreamThread, router: Router
) -> None:
    assert served(router) == [200] * REQUESTS
    upstream.upstream.script(HANG)
    connection = http.client.HTTPConnection(HOST, router.port)
    body = json.dumps({"model": "auto", "messages": HI})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    until(lambda: router.metric("in_flight", model="student") == 1, "a request in flight")
    victim = worker_of(router, connection)
    victim.kill()
    until(lambda: gone([victim]) and startups(router) == WORKERS + 1, "another worker")
    connection.close()
    until(lambda: router.metric("in_flight", model="student") == 0, "nothing in flight")
    assert router.metric("requests_total", route="auto", outcome="ok") == REQUESTS
    assert served(router) == [200] * REQUESTS
    assert router.metric("requests_total", route="auto", outcome="ok") == 2 * REQUESTS


def test_sighup_reaches_all_workers_and_a_bad_file_stops_none_not_even_a_new_one(
    config: dict[str, Any], router: Router
) -> None:
    router.write(with_another_route(config))
    router.signal(signal.SIGHUP)
    until(lambda: router.metric("config_reloads_total", result="ok") == WORKERS, "a reload in each worker")
    assert served(router, "other") == [200] * REQUESTS
    router.write("server: {auth: none}\nmodels: [")
    router.signal(signal.SIGHUP)
    until(lambda: router.metric("config_reloads_total", result="refused") == WORKERS, "a refusal in each worker")
    assert router.metric("config_last_reload_successful") == 0
    victim = router.workers()[0]
    victim.kill()
    until(lambda: gone([victim]) and startups(router) == WORKERS + 1, "another worker")
    assert served(router, "other") == [200] * REQUESTS
    assert "not YAML" in router.log.read_text()
