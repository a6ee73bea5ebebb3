"""The composition root: builds every part once from Config and stops them in reverse order.

`Engine` is everything behind the front, and works without it; `serve` puts the front before an
Engine and lives until SIGTERM or SIGINT. Stop order: not ready, stop accepting, finish what is in
flight, fail the rest, end the workers, close the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
import uvloop

from mme import logs
from mme.cache.model_cache import ModelCache
from mme.cache.pressure import read_memory, watch_memory
from mme.cache.records import Records
from mme.config import Config
from mme.containers.engine import MultiModelEngine
from mme.domain import Invocation, ModelKey, Reply
from mme.errors import MmeError
from mme.front.server import Front
from mme.metrics import Metrics
from mme.routing.catalog import Catalog, Endpoint, Variant
from mme.routing.pipeline import Pipeline
from mme.store.artifacts import ArtifactCache
from mme.store.open_store import open_store
from mme.workers.cores import allowed_cores
from mme.workers.environments import Environments
from mme.workers.pool import Pool

_log = structlog.get_logger()
_PROBE_SECONDS = 1.0
_PROBE_LIMIT_SECONDS = 30.0


class Engine:
    """The engine without HTTP.

    Use: `async with Engine(config) as engine: reply = await engine.invoke(invocation)`.

    Args:
        config: see `mme.build_config`; `models` is required.

    Raises (on entering):
        ConfigError: a setting does not hold up against the world.
        WorkerStartError: a worker can't start.
    """

    def __init__(self, config: Config) -> None:
        self.metrics = Metrics(config.server.endpoint_name, config.server.variant_name)
        self._config = config
        beside_artifacts = Path(config.disk.cache_dir).expanduser() / "environments"
        self._environments = Environments(config.environments, beside_artifacts)
        self._started_at = time.monotonic()
        self._store_problem: str | None = "the model store has not been reached yet"
        self._draining = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._build(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._draining = True
        await self._stack.aclose()

    async def invoke(self, invocation: Invocation) -> Reply:
        """Answers one invocation.

        Raises:
            MmeError: see `mme/errors.py` for the tree.
        Cancellation: a request that has not begun is dropped; a load it started goes on.
        """
        return await self._pipeline.invoke(invocation)

    async def load(self, key: ModelKey) -> None:
        """Brings a model into memory without asking it anything. Raises MmeError."""
        deadline = asyncio.get_running_loop().time() + self._config.cache.load_seconds
        await self._engine.load(key, deadline)

    def readiness(self) -> list[str]:
        """Why it can't serve now; empty when it can."""
        reasons = [self._store_problem] if self._store_problem else []
        if self._draining:
            reasons.append("the server is shutting down")
        if not self._pool.ready_count:
            reasons.append("no worker is ready")
        return reasons

    def drain(self) -> None:
        """Not ready from now on; what is asked is still answered."""
        self._draining = True

    def state(self) -> dict[str, object]:
        """Everything the operator may see, as JSON."""
        return {
            "endpoint": self._config.server.endpoint_name,
            "variant": self._config.server.variant_name,
            "store": self._store.location,
            "uptime_seconds": round(time.monotonic() - self._started_at, 3),
            "ready": not self.readiness(),
            **self._cache.describe(),
            "workers": self._pool.describe(),
            "disk": {
                "budget_bytes": self._artifacts.budget_bytes,
                "used_bytes": self._artifacts.used_bytes,
                "artifacts": self._artifacts.count,
            },
        }

    def metrics_text(self) -> bytes:
        """The metrics in Prometheus text form."""
        self.metrics.queued_requests.set(self._pool.waiting_count)
        return self.metrics.render()

    async def _build(self, stack: AsyncExitStack) -> None:
        config, metrics = self._config, self.metrics
        self._store = open_store(config.store)
        stack.push_async_callback(self._store.close)
        self._artifacts = ArtifactCache(self._store, config.disk, metrics)
        await self._artifacts.start()
        stack.push_async_callback(self._artifacts.close)
        await self._environments.start()
        stack.push_async_callback(self._environments.close)
        cores = allowed_cores()
        workers = config.workers.workers or max(1, cores - 1)
        self._pool = Pool(
            config.workers,
            workers=workers,
            threads=config.workers.threads or max(1, cores // workers),
            metrics=metrics,
            on_lost=lambda *lost: self._cache.lost(*lost),  # noqa: PLW0108 - it comes next
        )
        self._cache = self._new_cache()
        await self._pool.start()
        stack.push_async_callback(self._pool.close)
        stack.push_async_callback(self._cache.close)
        stack.callback(self._pool.stop_replacing)
        self._engine = MultiModelEngine(
            "primary", cache=self._cache, pool=self._pool, metrics=metrics
        )
        self._pipeline = Pipeline(self._catalog())
        for watch in (self._probe_store(), self._watch_memory()):
            stack.push_async_callback(_cancelled, asyncio.create_task(watch))

    def _new_cache(self) -> ModelCache:
        config = self._config.cache
        self._budget_bytes = config.memory_bytes or int(
            read_memory().total_bytes * config.memory_share_ratio
        )
        return ModelCache(
            config,
            budget_bytes=self._budget_bytes,
            store=self._store,
            artifacts=self._artifacts,
            pool=self._pool,
            environments=self._environments,
            records=Records(time.time),
            metrics=self.metrics,
        )

    def _catalog(self) -> Catalog:
        server = self._config.server
        variant = Variant(name=server.variant_name, containers=(self._engine,))
        endpoint = Endpoint(name=server.endpoint_name, variants=(variant,))
        return Catalog(account_id=server.account_id, endpoints={endpoint.name: endpoint})

    async def _watch_memory(self) -> None:
        residents, config = self._cache.residents, self._config.cache
        await watch_memory(
            residents.set_budget,
            lambda: residents.ledger.resident_bytes + residents.ledger.leaving_bytes,
            configured_bytes=self._budget_bytes,
            reserve_ratio=config.memory_reserve_ratio,
            pause_seconds=config.pressure_seconds,
        )

    async def _probe_store(self) -> None:
        """Asks until the store has answered once.

        Later outages do not make us unready: what is in memory still answers.
        """
        pause_seconds = _PROBE_SECONDS
        while True:
            try:
                await self._store.probe()
            except MmeError as error:
                if self._store_problem != str(error):
                    _log.error("store_unreachable", store=self._store.location, reason=str(error))
                self._store_problem = str(error)
            else:
                self._store_problem = None
                return
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _PROBE_LIMIT_SECONDS)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def serve(config: Config) -> int:
    """Runs the server until SIGTERM or SIGINT; prints one line to standard output once it listens.

    Raises:
        ConfigError: a setting does not hold up against the world.
        WorkerStartError: a worker can't start.
    """
    logs.configure(config.log)
    try:
        return uvloop.run(_serve(config))
    finally:
        logs.close()


async def _serve(config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    starting = asyncio.create_task(_start(config), name="start")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop, starting)
    try:
        engine, front = await starting
    except asyncio.CancelledError:
        return 0  # told to stop before it served
    try:
        with contextlib.suppress(BrokenPipeError):
            print(_banner(config, front.port), flush=True)  # noqa: T201 - what callers wait for
        await stop.wait()
    finally:
        engine.drain()
        await front.drain()
        await front.close()
        await engine.__aexit__(None, None, None)
    return 0


async def _start(config: Config) -> tuple[Engine, Front]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Engine(config))
        front = Front(engine, config.server, engine.metrics)
        await front.start()
        stack.pop_all()
    return engine, front


def _stop(stop: asyncio.Event, starting: asyncio.Task[tuple[Engine, Front]]) -> None:
    stop.set()
    starting.cancel()  # nothing, once it has started


def _banner(config: Config, port: int) -> str:
    server = config.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    address = f"http://{host}:{port}"
    return f"mme is serving {config.store.models} at {address} as endpoint {server.endpoint_name}"
