"""The built-in engine: workers, what is in their memory, and how much of it models may have."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import structlog

from mme.app.bookkeeping import keep
from mme.app.source import Source
from mme.app.tasks import own
from mme.cache.compiling import Compiling
from mme.cache.explain import explain
from mme.cache.ledger import Ledger
from mme.cache.model_cache import ModelCache
from mme.cache.policy import POLICIES
from mme.cache.pressure import read_memory, watch_memory
from mme.cache.records import Records
from mme.cache.waiting import Waiting
from mme.cache.warming import Warming
from mme.config import CacheConfig, Config, IsolationConfig, TenantConfig, WorkerConfig
from mme.containers.engine import MultiModelEngine
from mme.containers.limited import LimitedEngine
from mme.containers.single import SingleModel
from mme.domain import ModelKey
from mme.errors import ConfigError
from mme.metrics import ContainerMetrics, Metrics
from mme.workers.cores import allowed_cores
from mme.workers.environments import Environments
from mme.workers.limits import Limits
from mme.workers.pacing import Pacer
from mme.workers.pool import Pool
from mme.workers.wanted_time import wanted_seconds

_log = structlog.get_logger()
_LEAST_DISK_BYTES, _DISK_PARTS = 1024**3, 8  # of a worker


class BuiltIn:
    """One pool and one cache over one source of models.

    Args:
        may_evict: False where whoever loads models also unloads them.
    """

    def __init__(
        self, config: Config, source: Source, metrics: Metrics, *, may_evict: bool
    ) -> None:
        self._config, self._metrics, self._may_evict = config, metrics, may_evict
        self._artifacts, self._records = source.artifacts, Records(time.time)
        self._limits, self._pacer = Limits(config.tenants), _build_pacer(config.tenants)
        cores, self._budget_bytes = allowed_cores(), _budget(config.cache)
        workers = config.workers.workers or max(1, cores - 1)
        self._environments = _build_environments(config, by_platform=not may_evict)
        self.pool = Pool(
            _filled(config, by_platform=not may_evict, may_poll=workers < cores),
            workers=workers,
            threads=config.workers.threads or max(1, cores // workers),
            metrics=metrics,
            on_lost=lambda *lost: self.cache.lost(*lost),  # noqa: PLW0108 - it comes next
            on_recycle=lambda leaving: self.cache.copying.begin_move(leaving),  # noqa: PLW0108
            tenants=config.tenants,
            pacer=self._pacer,
        )
        self.cache = ModelCache(
            config.cache,
            ledger=Ledger(self._budget_bytes, POLICIES[config.cache.eviction]()),
            store=source.versions,
            artifacts=source.artifacts,
            pool=self.pool,
            environments=self._environments,
            records=self._records,
            metrics=metrics,
            may_evict=may_evict,
            limits=self._limits,
            waiting=Waiting(config.workers.queue_per_model, config.workers.queue_total),
        )
        self.warming = Warming(
            config.cache,
            cache=self.cache,
            store=source.versions,
            disk=source.artifacts,
            directory=Path(config.disk.cache_dir).expanduser(),
        )
        self.primary = self.engine("primary")

    @classmethod
    async def open(
        cls,
        config: Config,
        source: Source,
        metrics: Metrics,
        stack: AsyncExitStack,
        *,
        may_evict: bool = True,
    ) -> BuiltIn:
        """Starts the workers.

        Raises:
            ConfigError, WorkerStartError: they can't be.
        """
        if config.workers.compile_trees == "on" and find_spec("onnxruntime") is None:
            raise ConfigError("compile_trees: onnxruntime is missing: pip install 'mme[onnx]'")
        built = cls(config, source, metrics, may_evict=may_evict)
        source.artifacts.go_along(built.pool.lent_of)
        await built._start(stack)
        return built

    def engine(
        self,
        hostname: str,
        metrics: ContainerMetrics | None = None,
        default_accept: str | None = None,
    ) -> MultiModelEngine:
        """A container over this pool and cache."""
        limits = self._limits
        kind = partial(LimitedEngine, limits) if limits.tenants.limits else MultiModelEngine
        return kind(
            hostname,
            cache=self.cache,
            pool=self.pool,
            metrics=self._metrics,
            own_metrics=metrics,
            default_accept=default_accept,
        )

    def keep(self, key: ModelKey, stack: AsyncExitStack) -> SingleModel:
        """A model that is in memory from now on."""
        workers = len(self.pool.describe())
        load_seconds = self._config.cache.load_seconds
        single = SingleModel(key, self.cache, self.primary, load_seconds, concurrency=workers)
        own(stack, single.keep_loaded())
        return single

    def describe(self) -> dict[str, object]:
        """Memory and workers, for `/state`."""
        return {
            **self.cache.describe(),
            "environments": self._environments.describe(),
            "warming": self.warming.describe(),
            "paced_tenant": self.paced_tenant(),
            "workers": self.pool.describe(),
        }

    def paced_tenant(self) -> str | None:
        """Who floods and is held back."""
        return self._pacer.held_lately(time.monotonic())

    def explain(self, key: ModelKey) -> dict[str, object]:
        """Why `key` is in memory or is not, as JSON."""
        cache = self.cache
        known = explain(
            key,
            residents=cache.residents,
            loading=cache.loading,
            records=self._records,
            artifacts=self._artifacts,
        )
        return {**known, "eviction": self._config.cache.eviction}

    async def accesses(self) -> dict[str, object]:
        """The latest accesses, and the cache that they met, as JSON."""
        return {
            "budget_bytes": self._budget_bytes,
            "eviction": self._config.cache.eviction,
            **await asyncio.to_thread(self.cache.accesses.copy().describe),
        }

    async def _start(self, stack: AsyncExitStack) -> None:
        accounts, is_ours = self.cache.residents.accounts, self._may_evict
        self.keeper = await keep(accounts, self._config, stack, is_ours=is_ours)
        await self._environments.start()
        stack.push_async_callback(self._environments.close)
        await self.pool.start()
        _log.info("workers_isolated", isolation=self.pool.describe()[0]["isolation"])
        stack.push_async_callback(self.pool.close)
        stack.push_async_callback(self.cache.close)
        stack.callback(self.pool.stop_replacing)
        own(stack, self._watch_memory())
        own(stack, self.cache.copying.run())
        if self._config.workers.compile_trees == "on":
            own(stack, self._compile())
        if self._may_evict:  # else whoever loads models sees to this, too
            own(stack, self.warming.run())

    async def _compile(self) -> None:
        await Compiling(
            pool=self.pool,
            residents=self.cache.residents,
            loading=self.cache.loading,
            metrics=self._metrics,
            limit_seconds=self._config.cache.load_seconds,
        ).run()

    async def _watch_memory(self) -> None:
        residents, config = self.cache.residents, self._config.cache
        await watch_memory(
            residents.set_budget,
            lambda: residents.ledger.resident_bytes + residents.ledger.leaving_bytes,
            configured_bytes=self._budget_bytes,
            reserve_ratio=config.memory_reserve_ratio,
            pause_seconds=config.pressure_seconds,
        )


def _build_environments(config: Config, *, by_platform: bool) -> Environments:
    beside_artifacts = Path(config.disk.cache_dir).expanduser() / "environments"
    return Environments(config.environments, beside_artifacts, _isolation(config, by_platform))


def _build_pacer(tenants: TenantConfig) -> Pacer:
    def tell(tenant: str | None) -> None:
        if tenant is not None:
            why = "it has most of all requests, and the server is busy: --pace-above"
            _log.warning("tenant_paced", tenant=tenant, reason=why)
        else:
            _log.info("tenant_not_paced")

    return Pacer(tenants.weights, tenants.pace_above_ratio, wanted_seconds, tell)


def _filled(config: Config, *, by_platform: bool, may_poll: bool) -> WorkerConfig:
    """Where no core is left for the server, a worker that polls would take the server's."""
    isolation = _isolation(config, by_platform)
    poll_seconds = config.workers.poll_seconds if may_poll else 0.0
    return replace(config.workers, isolation=isolation, poll_seconds=poll_seconds)


def _isolation(config: Config, by_platform: bool) -> IsolationConfig:
    """The workers' directories are beside the artifacts, for their files to be linked across."""
    directory = f"{config.disk.cache_dir}/workers"
    disk_bytes = config.isolation.disk_bytes or _disk_of_a_worker(directory)
    return replace(
        config.isolation, directory=directory, by_platform=by_platform, disk_bytes=disk_bytes
    )


def _disk_of_a_worker(directory: str) -> int | None:
    place = Path(directory).expanduser().absolute()
    with contextlib.suppress(OSError):
        while not place.exists():
            place = place.parent
        return max(_LEAST_DISK_BYTES, shutil.disk_usage(place).total // _DISK_PARTS)
    return None


def _budget(config: CacheConfig) -> int:
    return config.memory_bytes or int(read_memory().total_bytes * config.memory_share_ratio)
