"""Is the model in memory: `lease` says yes at once, or fetches, unpacks, makes room and loads.

The one place that knows both the store and the workers. What is in memory is kept by
`residents.py`, whether it still is current by `freshness.py`, what failed by `failures.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from functools import partial
from typing import TypeVar

import structlog

from mme.cache.entry import Entry
from mme.cache.failures import Failures
from mme.cache.flight import Flight
from mme.cache.freshness import Freshness
from mme.cache.lease import Lease, Leasing
from mme.cache.records import Records
from mme.cache.residents import Residents
from mme.cache.sizes import SizeEstimates
from mme.config import CacheConfig
from mme.domain import ModelKey
from mme.errors import (
    ArtifactUnavailable,
    LoadFailed,
    MemoryRefused,
    MmeError,
    ModelError,
    ModelNotReady,
    StoreUnavailable,
    WorkerLost,
)
from mme.metrics import Metrics
from mme.store.base import Artifact, Artifacts, Versions
from mme.workers.environments import Environments
from mme.workers.pool import LoadedModel, LoadRequest, Pool
from mme.workers.slot import Residency

_log = structlog.get_logger()
_CRASHES_TO_QUARANTINE = 3

Result = TypeVar("Result")


class ModelCache:
    """The models of one store in the memory of one pool."""

    def __init__(  # noqa: PLR0913 - it is where store and workers meet
        self,
        config: CacheConfig,
        *,
        budget_bytes: int,
        store: Versions,
        artifacts: Artifacts,
        pool: Pool,
        environments: Environments,
        records: Records,
        metrics: Metrics,
        may_evict: bool = True,
    ) -> None:
        self._config = config
        self._environments = environments
        self._budget_bytes = budget_bytes
        self._store = store
        self._artifacts = artifacts
        self._pool = pool
        self._records = records
        self._metrics = metrics
        self.residents = Residents(
            budget_bytes, may_evict=may_evict, pool=pool, records=records, metrics=metrics
        )
        self._sizes = SizeEstimates()
        self.failures = Failures(config.failure_seconds, config.failure_limit_seconds)
        self._crashes: dict[str, int] = {}  # by content
        self._load_turns = asyncio.Semaphore(config.load_concurrency)
        self._loads: Flight[ModelKey, Entry, Lease] = Flight(
            share=partial(Lease, self.residents), reclaim=Lease.release
        )
        self._freshness = Freshness(
            config.refresh_seconds,
            store=store,
            artifacts=artifacts,
            residents=self.residents,
            reload=self._reload,
        )

    async def close(self) -> None:
        """Gives up loads and checks under way; who waits for one gets Draining."""
        await self._freshness.close()
        await self._loads.close()
        await self.residents.close()

    def lease(self, key: ModelKey, deadline: float) -> Leasing:
        """`async with cache.lease(...)`: inside, the model is in memory, and stays.

        Args:
            key: the target model.
            deadline: on the loop's clock; how long to wait for a cold one.

        Raises (on entering):
            ArtifactUnavailable, StoreUnavailable, ModelError: why it can't be loaded.
            ModelNotReady: not loaded by the deadline; the load goes on.
        Cancellation: stops waiting; the load goes on.
        """
        return Leasing(self, key, deadline)

    async def acquire(self, key: ModelKey, deadline: float) -> Lease:
        """A lease that the caller must release; see `lease`."""
        asked_at = time.monotonic()
        entry = self.residents.current(key)
        if entry is not None and asked_at >= entry.check_at:
            entry = await self._freshness.checked(entry, asked_at, deadline)
        if entry is not None:
            entry.hits += 1
            entry.used_at = asked_at
            self._metrics.model_cache_hit.observe(1)
            return Lease(self.residents, entry)
        lease = await _by(deadline, self._loads.join(key, partial(self._load, key)), key)
        lease.hit = False
        lease.load_seconds = time.monotonic() - asked_at
        self._metrics.model_cache_hit.observe(0)
        self._metrics.model_loading_wait_time.observe(lease.load_seconds * 1e6)
        return lease

    async def unload(self, key: ModelKey) -> bool:
        """Takes a model out of memory; returns when its memory is back. False: it was not there.

        A load under way is waited for first. Cancellation: what has begun goes on.
        """
        if key in self._loads:
            with contextlib.suppress(MmeError):
                await self._reload(key)
        entry = self.residents.current(key)
        if entry is not None:
            await self.residents.unload(entry, "asked to")
        return entry is not None

    def lost(self, residencies: list[Residency], running: list[Residency], cause: str) -> None:
        """A worker ended while at `running`. Who ends worker after worker is quarantined."""
        now = time.monotonic()
        for residency in running:
            if (entry := self.residents.find(residency.model)) is None:
                continue
            crashes = self._crashes[residency.model] = self._crashes.get(residency.model, 0) + 1
            if crashes >= _CRASHES_TO_QUARANTINE:
                error = LoadFailed(
                    f"The model ended its worker {crashes} times and is quarantined; "
                    f"the last time: {cause}."
                )
                self.failures.remember(entry.key, error, entry.version.etag, now)
        self.residents.lose(residencies, cause)

    def describe(self) -> dict[str, object]:
        """Models, memory, failures and records, for `/state`."""
        now, ledger = time.monotonic(), self.residents.ledger
        return {
            "memory": {
                "budget_bytes": ledger.budget_bytes,
                "configured_bytes": self._budget_bytes,
                "reserved_bytes": ledger.reserved_bytes,
                "resident_bytes": ledger.resident_bytes,
                "leaving_bytes": ledger.leaving_bytes,
            },
            "models": [entry.describe(now) for entry in self.residents],
            "loading": self._loads.keys(),
            "failures": self.failures.describe(now),
            "environments": self._environments.describe(),
            "events": self._records.describe(),
        }

    async def _reload(self, key: ModelKey) -> None:
        (await self._loads.join(key, partial(self._load, key))).release()

    async def _load(self, key: ModelKey) -> Entry:
        """One flight: the miss path, unless it is known to fail; remembers how it failed."""
        await self._refuse_known_failure(key)
        try:
            async with asyncio.timeout(self._config.load_seconds):
                return await self._fetch_and_place(key)
        except TimeoutError:
            late = LoadFailed(f"Not loaded within {self._config.load_seconds:g} s.")
            raise self._failed(key, late) from None
        except MemoryRefused as error:  # not remembered: what is unloaded next may make room
            self._records.add("refused", key, 0, str(error))
            raise
        except ModelError as error:
            raise self._failed(key, error) from None
        except ArtifactUnavailable:
            self.failures.forget(key)
            raise

    async def _fetch_and_place(self, key: ModelKey) -> Entry:
        """The whole miss path: fetch and unpack -> make room -> load -> current."""
        asked_at = time.monotonic()
        artifact: Artifact | None = None
        loaded: LoadedModel | None = None
        try:
            async with self._load_turns, self._artifacts.lease(key) as artifact:
                current = self.residents.current(key)
                if current is not None and current.version == artifact.version:
                    return self._freshness.confirm(current, asked_at)
                loaded = await self._place(artifact)
        except BaseException as error:
            if artifact is not None and loaded is not None:
                self.residents.abandon(artifact.version, loaded)
            if artifact is not None and isinstance(error, ModelError):
                error.etag = artifact.version.etag
            raise
        if not loaded.residency.alive:  # its worker ended since; its reservation went with it
            self.residents.release(artifact.version)
            return await self._fetch_and_place(key)
        return self._admit(artifact, loaded, asked_at)

    def _admit(self, artifact: Artifact, loaded: LoadedModel, asked_at: float) -> Entry:
        now = time.monotonic()
        entry = Entry(
            version=artifact.version,
            loaded=loaded,
            unpacked_bytes=artifact.unpacked_bytes,
            loaded_at=now,
            used_at=now,
            check_at=0.0,
            fresh_until=0.0,
        )
        self.residents.admit(self._freshness.confirm(entry, asked_at))
        self.failures.forget(entry.key)
        self._metrics.loads.labels("loaded").inc()
        _log.info(
            "model_loaded",
            model=entry.key,
            bytes=loaded.resident_bytes,
            fetch_seconds=round(artifact.fetch_seconds, 6),
            load_seconds=round(loaded.load_seconds, 6),
            from_disk=artifact.fetched_bytes == 0,
        )
        return entry

    async def _place(self, artifact: Artifact) -> LoadedModel:
        """Reserves, loads, settles; who took more than can be had starts over, its size known."""
        version, residents = artifact.version, self.residents
        environment = await self._environments.obtain(artifact.directory, self._pool.environments)
        worker_losses = 0
        while True:
            wanted = self._sizes.estimate(
                version, artifact.unpacked_bytes, limit_bytes=residents.ledger.budget_bytes
            )
            await residents.reserve(version, wanted)
            try:
                loaded = await self._pool.load(
                    LoadRequest(
                        model=version.digest,
                        name=version.key,
                        directory=str(artifact.directory),
                        size_bytes=wanted,
                        environment=environment,
                    )
                )
                self._sizes.learn(version, artifact.unpacked_bytes, loaded.resident_bytes)
                if await residents.settle(version, loaded.resident_bytes):
                    return loaded
                await self._pool.unload([loaded.residency])
            except WorkerLost:
                worker_losses += 1
                if worker_losses > 1:  # the first may have been a neighbour's doing
                    residents.release(version)
                    raise
            except BaseException:
                residents.release(version)
                raise
            residents.release(version)

    async def _refuse_known_failure(self, key: ModelKey) -> None:
        now = time.monotonic()
        if (failure := self.failures.active(key, now)) is None:
            return
        if self.failures.recheck(failure, now):
            with contextlib.suppress(StoreUnavailable):
                if (await self._store.head(key)).etag != failure.etag:
                    return
        raise failure.error

    def _failed(self, key: ModelKey, error: ModelError) -> ModelError:
        self.failures.remember(key, error, error.etag, time.monotonic())
        self._records.add("failed", key, 0, str(error))
        self._metrics.loads.labels("failed").inc()
        _log.warning("model_not_loaded", model=key, reason=str(error))
        return error


async def _by(deadline: float, work: Awaitable[Result], key: ModelKey) -> Result:
    try:
        async with asyncio.timeout_at(deadline):
            return await work
    except TimeoutError:
        raise ModelNotReady(f"Model {key} is still being loaded; try again.") from None
