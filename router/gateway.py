"""What lives as long as the process: the current runtime, metrics, the evidence writer, the auditor, the reloads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from router.errors import ConfigError
from router.evidence.audit import Auditor
from router.evidence.redis import connect
from router.evidence.writer import EvidenceWriter
from router.record.metrics import Metrics
from router.record.recorder import Recorder
from router.runtime import Runtime
from router.settings import Settings, load

log = logging.getLogger("distill_router")

GAUGES_EVERY_S = 1.0
WATCH_EVERY_S = 1.0


class Gateway:
    """Built inside the running event loop; `start` and `close` bracket its life.

    `redis_url` None: no Redis. `config_path`: watched and reloaded when it changes, if the configuration says so.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, redis_url: str | None, config_path: Path | None = None
    ) -> None:
        self.metrics = metrics
        self.runtime = Runtime(settings)
        self.writer = EvidenceWriter(
            settings.config.evidence, connect(redis_url, settings) if redis_url else None, metrics
        )
        self.recorder = Recorder(metrics, self.writer)
        self.auditor = Auditor(self.writer, self.recorder, metrics)
        self.ready = False
        self._path = config_path
        self._tasks: list[asyncio.Task[None]] = []
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.runtime.start()
        self.writer.start()
        self.metrics.reload_ok.set(1)
        self._tasks.append(asyncio.create_task(self._gauges(), name="gauges"))
        if self._path and self.runtime.config.server.reload:
            self._tasks.append(asyncio.create_task(self._watch(self._path), name="configuration watcher"))
        self.ready = True

    async def close(self) -> None:
        """Finish the audits, flush the evidence, close the connections."""
        self.ready = False
        for task in (*self._tasks, *self._retiring):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._retiring, return_exceptions=True)
        await self.auditor.close(self.runtime.config.server.drain_s)
        await self.writer.close()
        await self.runtime.close()

    def reload(self) -> bool:
        """Read the file again and switch to it; a bad file changes nothing. Running requests keep what they had."""
        if self._path is None:
            return False
        try:
            settings = load(self._path)
        except ConfigError as error:
            log.error("configuration not reloaded, the old one stays: %s", error)
            self._count_reload(False)
            return False
        old, new = self.runtime, Runtime(settings, self.runtime)
        new.start(old)
        self.runtime = new
        self._warn_of_fixed(old, new)
        self._retire(old, new)
        self._count_reload(True)
        log.info("configuration reloaded from %s", self._path)
        return True

    def _count_reload(self, succeeded: bool) -> None:
        self.metrics.reloads.labels("ok" if succeeded else "refused").inc()
        self.metrics.reload_ok.set(int(succeeded))

    def _warn_of_fixed(self, old: Runtime, new: Runtime) -> None:
        for block in ("host", "port", "workers"):
            if getattr(old.config.server, block) != getattr(new.config.server, block):
                log.warning("server.%s changed: it takes effect after a restart", block)
        for block in ("redis", "evidence"):
            if getattr(old.config, block) != getattr(new.config, block):
                log.warning("%s changed: it takes effect after a restart", block)

    def _retire(self, old: Runtime, new: Runtime) -> None:
        task = asyncio.create_task(self._close_when_idle(old, new), name="retiring configuration")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _close_when_idle(self, old: Runtime, new: Runtime) -> None:
        for model in set(old.models.values()) - set(new.models.values()):
            await model.idle()
            await model.close()

    async def _watch(self, path: Path) -> None:
        """Reload when the file's content changes; comparing the content survives every way of replacing a file."""
        seen = await asyncio.to_thread(_content, path)
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            content = await asyncio.to_thread(_content, path)
            if content is not None and content != seen:
                seen = content
                self.reload()

    async def _gauges(self) -> None:
        while True:
            for model in self.runtime.models.values():
                self.metrics.in_flight.labels(model.name).set(model.in_flight)
                for replica in model.replicas:
                    self.metrics.healthy.labels(model.name, replica.name).set(int(replica.healthy))
                    self.metrics.circuit_open.labels(model.name, replica.name).set(int(replica.circuit.is_open))
            self.metrics.queue.set(self.writer.waiting)
            await asyncio.sleep(GAUGES_EVERY_S)


def _content(path: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return None
