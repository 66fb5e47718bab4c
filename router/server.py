"""Running the gateway: uvicorn, one worker in this process or several under a supervisor, and the bundled Redis."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import logging.config
import math
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from router.bundled_redis import bundled_redis
from router.errors import BadRequest, ConfigError, RouterError
from router.ledger.journal import journals
from router.ledger.status import declare_nothing
from router.lifeline import end_with_parent, held_hangup, hold_hangup
from router.setting_warnings import open_to_all, warnings
from router.settings import LAST_GOOD, Settings, load, share_metrics_dir
from router.trained.encoders import require_encoders

log = logging.getLogger("distill_router")

MAX_HEAD_BYTES = 64 * 1024
KEEP_ALIVE_S = 75
WORKER_SILENT_S = 30  # then the supervisor replaces it; imports take some seconds on a small pod
GC_THRESHOLD = 10_000  # requests leave few cycles behind; the default looks for them every 700 objects
HEAD_TOO_LARGE = BadRequest(f"the request headers are larger than {MAX_HEAD_BYTES} bytes", code="headers_too_large")
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
    """uvicorn's protocol with a bound on the request's head, which llhttp does not have, and without trailers."""

    _head_bytes = 0
    _in_head = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large", HEAD_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets an OpenAI error too."""
        self._refuse(b"400 Bad Request", BadRequest(msg, code="invalid_http"))

    def _refuse(self, status: bytes, error: RouterError) -> None:
        body = json.dumps(error.body()).encode()
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers come after the head; nobody reads them, and uvicorn would collect them without a bound."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()


class Workers(Multiprocess):
    """Several workers. SIGHUP means "reload the configuration" here: it goes to the workers, which are not replaced."""

    def init_processes(self) -> None:
        with held_hangup():
            super().init_processes()

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGHUP)

    def terminate_all(self) -> None:
        """The port is not answered any more as soon as the last worker has closed it, while they drain."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        """A worker that died leaves its live gauges behind; its counters stay, as they should."""
        before = {process.pid for process in self.processes}
        with held_hangup():
            super().keep_subprocess_alive()
        gone = before - {process.pid for process in self.processes}
        if gone:
            from prometheus_client.multiprocess import mark_process_dead

            for pid in gone:
                mark_process_dead(pid)  # type: ignore[no-untyped-call]  # untyped there

    @property
    def failed(self) -> bool:
        """Whether a worker could not start, which ends them all."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)


def serve(config_path: Path, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigError."""
    settings = load_usable(config_path)
    server = settings.config.server
    host, port, workers = host or server.host, server.port if port is None else port, workers or server.workers
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    hold_hangup()  # until there is somebody to reload
    logging.config.dictConfig(LOGGING)
    for warning in filter(None, [open_to_all(server, host), *warnings(settings.config)]):
        log.warning(warning)
    with (
        contextlib.closing(_bind(host, port)) as listener,
        _redis_url(settings) as redis_url,
        _shared_dir(workers) as shared_dir,
    ):
        build = functools.partial(build_app, config_path, redis_url, shared_dir, os.getpid())
        config = uvicorn.Config(
            build,
            factory=True,
            workers=workers,
            loop="uvloop",
            http=BoundedHeadProtocol,
            ws="none",
            lifespan="on",
            log_config=LOGGING,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody asks for the client's address
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(server.drain_s),
            timeout_worker_healthcheck=WORKER_SILENT_S,
        )
        log.info("listening on http://%s:%d", *listener.getsockname()[:2])
        _run(config, workers, listener, settings.text, shared_dir)


def build_app(config_path: Path, redis_url: str | None, shared_dir: Path | None, parent: int) -> Any:
    """The application of one worker; imported here, so that the metrics folder is in the environment before."""
    from router.app import create_app

    if shared_dir is not None:
        end_with_parent(parent)
    settings = load_last_good(config_path, shared_dir)
    gc.freeze()  # modules live as long as the process: the collector need not walk them again and again
    gc.set_threshold(GC_THRESHOLD)
    return create_app(settings, redis_url=redis_url, config_path=config_path, shared_dir=shared_dir)


def load_usable(config_path: Path) -> Settings:
    """A configuration whose encoders can be used, too. Raises ConfigError."""
    settings = load(config_path)
    require_encoders(settings)
    return settings


def load_last_good(config_path: Path, shared_dir: Path | None) -> Settings:
    """The file, or what the workers agreed on last: one that is replaced must not fail on a file they refused."""
    try:
        return load_usable(config_path)
    except ConfigError as error:
        if shared_dir is None:
            raise
        log.error("configuration of a new worker not read, the old one stays: %s", error)
        return load(shared_dir / LAST_GOOD)


def _run(config: uvicorn.Config, workers: int, listener: socket.socket, text: str, shared_dir: Path | None) -> None:
    if shared_dir is None:
        uvicorn.Server(config).run([listener])
        return
    (shared_dir / LAST_GOOD).write_text(text, encoding="utf-8")
    supervisor = Workers(config, [listener])
    supervisor.run()
    if supervisor.failed:
        raise SystemExit(STARTUP_FAILURE)


def _exit(number: int, frame: FrameType | None) -> None:
    """uvicorn drains on a signal and then raises it again, which would end the process without its cleaning up."""
    sys.exit(0)


def _bind(host: str, port: int) -> socket.socket:
    """The port, before anything is started for it. Raises ConfigError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"server: cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listener


@contextlib.contextmanager
def _redis_url(settings: Settings) -> Iterator[str | None]:
    redis = settings.config.redis
    if redis is None:
        yield None
    elif redis.url != "embedded":
        yield redis.url
    else:
        with bundled_redis(redis.data_dir) as url:
            if not journals(settings.config.ledger.state_dir):  # else killed workers may have leases
                declare_nothing(url)
            yield url


@contextlib.contextmanager
def _shared_dir(workers: int) -> Iterator[Path | None]:
    """Several workers share a folder: metrics add up in it, and it keeps the configuration that is in effect."""
    if workers == 1:
        share_metrics_dir(None)
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="distill-router-workers-") as folder:
        share_metrics_dir(Path(folder))
        yield Path(folder)
