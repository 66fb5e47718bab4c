"""What lives as long as the process: the current runtime, metrics, the evidence writer, the auditor, the reloads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import weakref
from pathlib import Path

import redis.asyncio as aioredis

from policies.learn.artifact import loads
from router.client import unique_id
from router.control.control import Control
from router.control.conversations import Conversations
from router.control.metrics import ControlSeries
from router.control.plan import plan_of
from router.errors import ConfigError
from router.evidence.audit import Auditor
from router.evidence.destination import destination
from router.evidence.redis import connect, evidence_url
from router.evidence.retention import LiveRetention
from router.evidence.writer import EvidenceWriter
from router.keys.follower import KeyFollower
from router.keys.store import KeyStore
from router.ledger.gpu import gpu_bill
from router.ledger.ledger import Ledger
from router.limits.limiter import Limiter
from router.record.metrics import Metrics
from router.record.recorder import Recorder
from router.runtime import Runtime, Standing
from router.settings import LAST_GOOD, Config, Settings, load
from router.tasks import end
from router.trained.encoding import Encoding
from router.trained.follower import TrainedFollower
from router.trained.metrics import TrainedMetrics
from router.trained.retrainer import Retrainer, plans
from router.trained.schedule import Schedule
from router.trained.settings import Training, trained_kind
from router.trained.store import TrainedStore
from router.upstream.model import ModelClient

log = logging.getLogger("distill_router")

GAUGES_EVERY_S = 1.0
WATCH_EVERY_S = 1.0
AUDITS_DRAIN_S = 5.0


class Gateway:
    """Built inside the running event loop; `start` and `close` bracket its life.

    `redis_url` None: no Redis. `config_path`: watched and reloaded when it changes, if the configuration says so, and
    whenever `wants_reload` is set. `shared_dir`: keeps the text of the last good file for workers to come.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        redis_url: str | None,
        config_path: Path | None = None,
        shared_dir: Path | None = None,
    ) -> None:
        self.metrics = metrics
        self._standing = Standing(conversations=_conversations(shared_dir))
        self.runtime = Runtime(settings, self._standing)
        redis = settings.config.redis
        ledger_url = (redis and redis.ledger_url) or redis_url
        evidence = evidence_url(settings, redis_url)
        self.writer = EvidenceWriter(
            settings.config.evidence,
            connect(evidence, settings) if evidence else None,
            metrics,
            destination=destination(settings, redis_url),
        )
        self.ledger = Ledger(settings.config, connect(ledger_url, settings) if ledger_url else None, metrics)
        self.recorder = Recorder(metrics, self.writer, self.ledger)
        self.retention = LiveRetention(
            settings.config.retention, self.writer, connect(evidence, settings) if evidence else None, metrics
        )
        self.auditor = Auditor(
            self.writer, self.recorder, metrics, self.ledger, self.retention, settings.config.evidence.pair_max_bytes
        )
        self.gpu_bill = gpu_bill(settings, redis_url, metrics, shared_dir, lambda: self.runtime.models.values())
        self.ledger_redis = connect(ledger_url, settings) if ledger_url else None
        self.limits = Limiter(self.ledger_redis, metrics, unique_id())
        self.control = self._controls(self.ledger_redis) if self.ledger_redis else None
        store = TrainedStore(self.ledger_redis.eval) if self.ledger_redis else None
        trained_metrics = TrainedMetrics(metrics.registry)
        self.trained = TrainedFollower(store, self._standing.slots, trained_metrics, loads)
        self.encoding = Encoding(self._standing.slots)
        self.retrainer = Retrainer(Schedule(self.ledger_redis.eval), trained_metrics) if self.ledger_redis else None
        self.key_store = KeyStore(self.ledger_redis.eval) if self.ledger_redis else None
        self.keys = self._follow(self.key_store) if self.key_store else None
        self.ready = False
        self.wants_reload = asyncio.Event()
        self._path = config_path
        self._shared_dir = shared_dir
        self._seen: str | None = settings.text
        self._tasks: list[asyncio.Task[None]] = []
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.runtime.start()
        self._describe(self.runtime)
        await self.ledger.start(self.runtime.config)
        self.writer.start()
        self.retention.start()
        self.gpu_bill.start()
        self.limits.start()
        if self.keys:
            await self.keys.start()
        await self._start_encoding()
        await self.trained.start()
        if self.control:
            await self.control.start()
        if self.retrainer:
            self.retrainer.start()
        self.metrics.reload_ok.set(1)
        self._tasks.append(asyncio.create_task(self._gauges(), name="gauges"))
        if self._path:
            self._tasks.append(asyncio.create_task(self._watch(self._path), name="configuration watcher"))
        self.ready = True

    async def _start_encoding(self) -> None:
        """An encoder whose file has gone since `serve` looked at it must not end the workers that have it in memory."""
        try:
            self.encoding.use(await asyncio.to_thread(self.encoding.prepared, self.runtime.settings))
        except ConfigError as error:
            log.error("this worker decides without the vectors of encoders: %s", error)

    async def close(self) -> None:
        """Finish the audits, flush the evidence, close the connections; whatever one of them does, all are closed."""
        self.ready = False
        await end(self._tasks)
        async with contextlib.AsyncExitStack() as last_to_first:
            last_to_first.callback(self._standing.conversations.close)
            last_to_first.push_async_callback(self.runtime.close)
            last_to_first.push_async_callback(end, self._retiring)
            last_to_first.push_async_callback(self.writer.close)
            last_to_first.push_async_callback(self.retention.close)
            if self.ledger_redis:
                last_to_first.push_async_callback(self.ledger_redis.aclose)
            for part in (self.control, self.retrainer):
                if part:
                    last_to_first.push_async_callback(part.close)
            last_to_first.push_async_callback(self.trained.close)
            last_to_first.callback(self.encoding.close)
            if self.keys:
                last_to_first.push_async_callback(self.keys.close)
            last_to_first.push_async_callback(self.limits.close)
            last_to_first.push_async_callback(self.gpu_bill.close)
            last_to_first.push_async_callback(self.ledger.close)
            last_to_first.push_async_callback(self.auditor.close, AUDITS_DRAIN_S)

    async def reload(self) -> bool:
        """Read the file again and switch to it; a bad file changes nothing. Running requests keep what they had."""
        if self._path is None:
            return False
        try:
            settings = await asyncio.to_thread(load, self._path)
            encoders = await asyncio.to_thread(self.encoding.prepared, settings)
            new = Runtime(settings, self._standing, self.runtime)
        except ConfigError as error:
            log.error("configuration not reloaded, the old one stays: %s", error)
            self._count_reload(False)
            return False
        await self.trained.turn(coming=new.trained())
        self.encoding.use(encoders)
        self._switch(new)
        if self._shared_dir:
            await asyncio.to_thread(_replace, self._shared_dir / LAST_GOOD, settings.text)
        self._count_reload(True)
        log.info("configuration reloaded from %s", self._path)
        return True

    def _follow(self, store: KeyStore) -> KeyFollower:
        return KeyFollower(store, self.metrics, lambda: self.runtime.authenticator)

    def _controls(self, redis: aioredis.Redis) -> Control:
        return Control(redis, ControlSeries(self.metrics.registry), self._standing.boards)

    def _switch(self, new: Runtime) -> None:
        if self.keys:
            self.keys.apply(new.authenticator)
        old, self.runtime = self.runtime, new
        new.start(old)
        self.ledger.configure(new.config)
        self._describe(new)
        self._warn_of_fixed(old, new)
        replaced = [model for name, model in old.models.items() if new.models.get(name) is not model]
        self.metrics.forget_models({model.name: [replica.name for replica in model.replicas] for model in replaced})
        forgotten = asyncio.Event()
        # The collector may find the last reference in any thread.
        finalizer = weakref.finalize(old, asyncio.get_running_loop().call_soon_threadsafe, forgotten.set)
        task = asyncio.create_task(self._retire(replaced, forgotten, finalizer), name="retiring configuration")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _describe(self, runtime: Runtime) -> None:
        self.trained.configure(runtime.trained())
        if self.control:
            self.control.configure(plan_of(runtime))
        if self.retrainer:
            self.retrainer.configure(plans(runtime.settings, _trainings(runtime.config)))
        self.retention.configure({route.name: route.student.version for route in runtime.routes.values()})
        self.metrics.configured(
            runtime.models,
            {route.name: (route.teacher.name, route.student.name) for route in runtime.routes.values()},
            {
                name: {budget.on_spent, budget.redis_loss, "shed"}
                for name, budget in runtime.config.every_budget.items()
            },
            {route.name: route.policy for route in runtime.routes.values()},
        )

    def _count_reload(self, succeeded: bool) -> None:
        self.metrics.reloads.labels("ok" if succeeded else "refused").inc()
        self.metrics.reload_ok.set(int(succeeded))

    def _warn_of_fixed(self, old: Runtime, new: Runtime) -> None:
        for block in ("host", "port", "workers", "drain_s"):
            if getattr(old.config.server, block) != getattr(new.config.server, block):
                log.warning("server.%s changed: it takes effect after a restart", block)
        for block in ("redis", "evidence", "retention", "ledger"):
            if getattr(old.config, block) != getattr(new.config, block):
                log.warning("%s changed: it takes effect after a restart", block)

    async def _retire(
        self, models: list[ModelClient], forgotten: asyncio.Event, finalizer: weakref.finalize[..., Runtime]
    ) -> None:
        """Close models when nothing refers to their configuration any more: no request, no audit."""
        try:
            await forgotten.wait()
            for model in models:
                await model.idle()
        finally:
            finalizer.detach()
            for model in models:
                await model.close()

    async def _watch(self, path: Path) -> None:
        """Reload when asked to, and when the file's content changes: that survives every way of replacing a file."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_EVERY_S):
                    await self.wants_reload.wait()
            content = await asyncio.to_thread(_content, path)
            changed = content is not None and content != self._seen and self.runtime.config.server.reload
            if changed or self.wants_reload.is_set():
                self.wants_reload.clear()
                self._seen = content
                await self._reload_safely()

    async def _reload_safely(self) -> None:
        try:
            await self.reload()
        except Exception:  # the edge of a background task
            log.exception("configuration not reloaded, the old one stays")
            self._count_reload(False)

    async def _gauges(self) -> None:
        while True:
            for model in self.runtime.models.values():
                self.metrics.in_flight.labels(model.name).set(model.in_flight)
                for replica in model.replicas:
                    self.metrics.healthy.labels(model.name, replica.name).set(int(replica.healthy))
                    self.metrics.circuit_open.labels(model.name, replica.name).set(int(replica.circuit.is_open))
            for route in self.runtime.routes.values():
                self.metrics.keep_probability.labels(route.name).set(self.auditor.sampler.keep(route))
            self.metrics.queue.set(self.writer.waiting)
            await asyncio.sleep(GAUGES_EVERY_S)


def _trainings(config: Config) -> dict[str, tuple[str, Training]]:
    """By route: the kind of policy that is trained again, and how."""
    found = {
        name: (trained_kind(route.policy.trained_for(name)), route.training) for name, route in config.routes.items()
    }
    return {name: (kind, training) for name, (kind, training) in found.items() if kind and training}


def _conversations(shared_dir: Path | None) -> Conversations:
    """Those of all workers; of this one where the folder has no room for them."""
    try:
        return Conversations(shared_dir)
    except OSError as error:
        log.error("each worker remembers the models of its own conversations only: %s", error)
        return Conversations()


def _content(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return None


def _replace(path: Path, text: str) -> None:
    """Atomically: a new worker may be reading it."""
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
