"""The composition root: builds every part once from Config and stops them in reverse order.

`Engine` is everything behind the front, and works without it; `serving.py` puts the front before an
Engine.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from mme.cache.model_cache import ModelCache
from mme.cache.pressure import read_memory, watch_memory
from mme.cache.records import Records
from mme.config import Config
from mme.containers.engine import MultiModelEngine
from mme.containers.hosted import HostedModels
from mme.containers.operated import OperatedModels
from mme.containers.single import SingleModel
from mme.domain import Invocation, ModelKey, Reply
from mme.errors import MmeError
from mme.front.dialects import Management
from mme.metrics import Metrics
from mme.routing.catalog import Catalog, Endpoint, Variant
from mme.routing.pipeline import Pipeline
from mme.store.artifacts import ArtifactCache
from mme.store.base import Artifacts, Versions
from mme.store.open_store import open_store
from mme.store.registered import RegisteredDirectories
from mme.workers.cores import allowed_cores
from mme.workers.environments import Environments
from mme.workers.pool import Pool

_log = structlog.get_logger()
_PROBE_SECONDS = 1.0
_PROBE_LIMIT_SECONDS = 30.0
_CONTAINER_MODES = ("multi", "single")  # whoever runs the container brings models and evicts them


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
        self._mode = config.server.container
        self._single: SingleModel | None = None
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
        single = self._single
        if single is not None and not single.is_loaded():
            reasons.append(single.failure() or "the model is being loaded")
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

    @property
    def location(self) -> str:
        """Where models come from, in words for an operator."""
        return "what is posted to /models" if self._mode == "multi" else self._config.store.models

    def metrics_text(self) -> bytes:
        """The metrics in Prometheus text form."""
        self.metrics.queued_requests.set(self._pool.waiting_count)
        return self.metrics.render()

    async def _build(self, stack: AsyncExitStack) -> None:
        config, metrics = self._config, self.metrics
        self._store, self._artifacts = await self._open_source(stack)
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
        self._pipeline = Pipeline(self._catalog(), config.pipeline.payload_limit_bytes)
        self.management = self._manage(stack)
        for watch in (self._probe_store(), self._watch_memory()):
            stack.push_async_callback(_cancelled, asyncio.create_task(watch))

    async def _open_source(self, stack: AsyncExitStack) -> tuple[Versions, Artifacts]:
        if self._mode in _CONTAINER_MODES:
            directories = RegisteredDirectories()
            return directories, directories
        store = open_store(self._config.store)
        stack.push_async_callback(store.close)
        artifacts = ArtifactCache(store, self._config.disk, self.metrics)
        await artifacts.start()
        stack.push_async_callback(artifacts.close)
        return store, artifacts

    def _manage(self, stack: AsyncExitStack) -> Management:
        behind = self._cache, self._engine, self._config.cache.load_seconds
        source = self._store
        if not isinstance(source, RegisteredDirectories):
            return Management(operated=OperatedModels(source.location, *behind))
        if self._mode == "multi":
            hosted = HostedModels(source, *behind)
            stack.push_async_callback(hosted.close)
            return Management(hosted=hosted)
        workers = len(self._pool.describe())
        directory = self._config.store.models
        self._single = single = SingleModel(directory, source, *behind, concurrency=workers)
        stack.push_async_callback(_cancelled, asyncio.create_task(single.keep_loaded()))
        return Management(single=single)

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
            may_evict=self._mode not in _CONTAINER_MODES,
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
