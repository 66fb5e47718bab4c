"""Running the gateway: uvicorn, one worker in this process or several under a supervisor, and the bundled Redis."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from router.bundled_redis import bundled_redis
from router.errors import ConfigError
from router.settings import METRICS_DIR_VARIABLE, Settings, is_loopback, load

log = logging.getLogger("distill_router")

MAX_HEAD_BYTES = 64 * 1024
KEEP_ALIVE_S = 75
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    b'{"error":{"message":"the request headers are larger than 65536 bytes","type":"invalid_request_error",'
    b'"param":null,"code":"headers_too_large"}}'
)
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "distill_router": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
    },
}


class BoundedHeadProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a bound on the request's head, which llhttp does not have."""

    _head_bytes = 0
    _in_head = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.write(TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()


class Workers(Multiprocess):
    """Several workers. SIGHUP means "reload the configuration" here: it goes to the workers, which are not replaced."""

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid:
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        """A worker that died leaves its live gauges behind; its counters stay, as they should."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        gone = before - {process.pid for process in self.processes}
        if gone:
            from prometheus_client.multiprocess import mark_process_dead

            for pid in gone:
                mark_process_dead(pid)  # type: ignore[no-untyped-call]  # untyped there


def serve(config_path: Path, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigError."""
    settings = load(config_path)
    server = settings.config.server
    host, port, workers = host or server.host, server.port if port is None else port, workers or server.workers
    if server.auth == "none" and not is_loopback(host):
        log.warning("server.auth is none: anyone who reaches %s:%s may call", host, port)
    with _redis_url(settings) as redis_url, _metrics_dir(workers) as metrics_dir:
        build = functools.partial(build_app, config_path, redis_url, metrics_dir)
        config = uvicorn.Config(
            build,
            factory=True,
            host=host,
            port=port,
            workers=workers,
            loop="uvloop",
            http=BoundedHeadProtocol,
            ws="none",
            lifespan="on",
            log_config=LOGGING,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=round(server.drain_s),
        )
        _run(config, workers)


def build_app(config_path: Path, redis_url: str | None, metrics_dir: Path | None) -> Any:
    """The application of one worker; imported here, so that the metrics folder is in the environment before."""
    from router.app import create_app

    return create_app(load(config_path), redis_url=redis_url, config_path=config_path, metrics_dir=metrics_dir)


def _run(config: uvicorn.Config, workers: int) -> None:
    if workers == 1:
        uvicorn.Server(config).run()
        return
    listener = _bind(config)
    Workers(config, [listener]).run()


def _bind(config: uvicorn.Config) -> socket.socket:
    try:
        return config.bind_socket()
    except SystemExit:  # uvicorn has logged why
        raise ConfigError(f"cannot listen on {config.host}:{config.port}") from None


@contextlib.contextmanager
def _redis_url(settings: Settings) -> Iterator[str | None]:
    redis = settings.config.redis
    if redis is None:
        yield None
    elif redis.url != "embedded":
        yield redis.url
    else:
        with bundled_redis(redis.data_dir) as url:
            yield url


@contextlib.contextmanager
def _metrics_dir(workers: int) -> Iterator[Path | None]:
    """Several workers add their metrics up in files; one keeps them in memory."""
    if workers == 1:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="distill-router-metrics-") as folder:
        os.environ[METRICS_DIR_VARIABLE] = folder
        yield Path(folder)
