"""`distill-router serve` as one process: reload by signal, drain, the bundled Redis, and what a kill leaves behind."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.bundled_redis import bundled_redis
from router.errors import ConfigError
from router.evidence.read import Evidence
from router.evidence.spool import read_spool
from router.evidence.streams import DECISIONS
from router.record.row import decode_row
from router.settings import parse
from tests.support.gateway import HI, two_models
from tests.support.router_process import PATIENCE_S, Router, gone, until
from tests.support.server_process import HOST
from tests.support.upstream_thread import HeldStream, UpstreamThread

Json = dict[str, Any]


@pytest.fixture
def upstream() -> Iterator[UpstreamThread]:
    with UpstreamThread() as upstream:
        yield upstream


def configuration(upstream: UpstreamThread, folder: Path, **top: Any) -> Json:
    return two_models(upstream.url, upstream.url, evidence={"spool_dir": str(folder / "spool")}, **top)


def begin_stream(router: Router) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """A chat stream, read to its first event; the connection has to be kept."""
    connection = http.client.HTTPConnection(HOST, router.port, timeout=PATIENCE_S)
    body = json.dumps({"model": "auto", "messages": HI, "stream": True})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    assert answer.readline().startswith(b"data: ")
    return connection, answer


def refused(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=PATIENCE_S).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_a_stream_finish_refuses_new_clients_and_writes_every_row(
    workers: int, upstream: UpstreamThread, tmp_path: Path
) -> None:
    held = HeldStream()
    upstream.upstream.script(held)
    config = configuration(upstream, tmp_path)
    with Router(tmp_path, config, "--workers", str(workers)) as router:
        connection, answer = begin_stream(router)
        router.signal(signal.SIGTERM)
        until(lambda: refused(router.port), "new clients refused")
        assert router.process.poll() is None
        held.go.set()
        assert answer.read().endswith(b"data: [DONE]\n\n")
        connection.close()
        assert router.process.wait(PATIENCE_S) == 0, router.log.read_text()
    (record,) = read_spool(tmp_path / "spool", DECISIONS)
    assert decode_row(record).o == "ok"
    assert "Traceback" not in router.log.read_text()


def test_the_bundled_redis_gets_the_rows_and_ends_with_the_gateway(upstream: UpstreamThread, tmp_path: Path) -> None:
    data = tmp_path / "redis"
    config = configuration(upstream, tmp_path, redis={"url": "embedded", "data_dir": str(data)})
    with Router(tmp_path, config) as router:
        assert router.ask()[0] == 200
        settings = parse(router.path.read_text(), {})
        until(lambda: list(Evidence(settings).rows()), "the row in Redis")
        with pytest.raises(ConfigError, match="another gateway"), bundled_redis(data):
            pass
        processes = router.family()
        assert router.redis()
        router.signal(signal.SIGTERM)
        assert router.process.wait(PATIENCE_S) == 0
        assert gone(processes)
    assert not (data / "redis.url").exists()
    with pytest.raises(ConfigError, match="no gateway runs"):
        Evidence(settings)
    with Router(tmp_path, config):
        assert len(list(Evidence(settings).rows())) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_gateway_takes_its_redis_and_its_workers_with_it(
    workers: int, upstream: UpstreamThread, tmp_path: Path
) -> None:
    config = configuration(upstream, tmp_path, redis={"url": "embedded", "data_dir": str(tmp_path / "redis")})
    with Router(tmp_path, config, "--workers", str(workers)) as router:
        processes = router.family()
        assert len(processes) >= (2 if workers == 1 else 4)
        router.process.kill()
        router.process.wait()
        until(lambda: gone(processes), "the end of the gateway's processes")


def test_sighup_reloads_even_when_the_file_is_not_watched(upstream: UpstreamThread, tmp_path: Path) -> None:
    config = configuration(upstream, tmp_path) | {"server": {"auth": "none", "reload": False}}
    with Router(tmp_path, config) as router:
        assert router.ask("other")[0] == 404
        router.write(config | {"routes": config["routes"] | {"other": config["routes"]["auto"]}})
        router.signal(signal.SIGHUP)
        until(lambda: router.ask("other")[0] == 200, "the new route")
        assert router.metric("config_reloads_total", result="ok") == 1


def test_a_signal_that_comes_before_the_gateway_is_ready_does_not_kill_it(
    upstream: UpstreamThread, tmp_path: Path
) -> None:
    with Router(tmp_path, configuration(upstream, tmp_path), wait=False) as router:
        until(lambda: "listening" in router.log.read_text(), "the first line of the log")
        router.signal(signal.SIGHUP)
        until(router.answers, "a ready gateway")
        until(lambda: router.metric("config_reloads_total", result="ok") == 1, "the reload")
