"""The miss path: fetch and unpack -> make room -> load -> current; one flight a key.

The one place where store and workers meet; how room is made and the load done, `placing.py` knows.
A failed load is remembered with its cause, so that a
bad model costs one load per back-off; what is refused for want of room is not, since what is
unloaded next may make some. A load made ahead waits for its turn behind those that someone waits
for and evicts nothing, until someone joins it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial

import structlog

from mme import logs
from mme.cache.blame import Blame
from mme.cache.churn import Churn
from mme.cache.entry import Entry
from mme.cache.failures import Failures
from mme.cache.flight import Flight
from mme.cache.lease import Lease
from mme.cache.placing import Placing
from mme.cache.quota import Quota
from mme.cache.recall import Recall
from mme.cache.records import ABSENT, UNAVAILABLE, Records
from mme.cache.residents import Residents
from mme.cache.turns import Turns
from mme.config import CacheConfig
from mme.domain import ModelKey
from mme.errors import (
    ArtifactUnavailable,
    DiskUnavailable,
    LoadFailed,
    MemoryRefused,
    ModelError,
    ModelNotReady,
    Overloaded,
    StoreUnavailable,
)
from mme.metrics import Metrics
from mme.store.base import Artifact, Artifacts, Pause, Versions
from mme.tracing import stage
from mme.workers.environments import Environments
from mme.workers.pool import LoadedModel, Pool

_log = structlog.get_logger()


class Loading:
    """Loads under way, and what is known from earlier ones."""

    def __init__(  # noqa: PLR0913 - it is where store and workers meet
        self,
        config: CacheConfig,
        *,
        store: Versions,
        artifacts: Artifacts,
        pool: Pool,
        environments: Environments,
        residents: Residents,
        records: Records,
        metrics: Metrics,
        quota: Quota,
        blame: Blame,
        left_limit: int,
    ) -> None:
        self._config = config
        self._store = store
        self._artifacts = artifacts
        self._residents = residents
        self._records = records
        self._loaded = metrics.loads.labels("loaded")
        self._failed_loads = metrics.loads.labels("failed")
        self._write_info = logs.info_writer()
        self._quota = quota
        self.placing = Placing(
            pool=pool,
            environments=environments,
            residents=residents,
            churn=Churn(config.churn_seconds),
            quota=quota,
            blame=blame,
        )
        self.recall = Recall(residents, quota, metrics, is_weighed=config.churn_seconds > 0)
        self.failures = Failures(config.failure_seconds, config.failure_limit_seconds)
        self._turns: Turns[ModelKey] = Turns(
            config.load_concurrency, quota.tenants.weights, pool.loads_while_late
        )
        self._flight: Flight[ModelKey, Entry, Lease] = Flight(
            share=partial(Lease, residents), reclaim=Lease.release, left_limit=left_limit
        )

    def __contains__(self, key: ModelKey) -> bool:
        return key in self._flight

    def keys(self) -> list[ModelKey]:
        """What is being loaded now."""
        return self._flight.keys()

    async def join(self, key: ModelKey, api_key: str | None = None) -> Lease:
        """A lease of the newest version, by the load under way or one of its own.

        Raises:
            what the load raised, the same to all who waited for it; Draining after `close`.
        Cancellation: stops waiting; the load goes on.
        """
        self.placing.churn.ask(key, time.monotonic())
        self._residents.ahead.discard(key)
        self._turns.hurry(key)
        return await self._flight.join(key, partial(self._load, key, api_key=api_key))

    async def prepare(self, key: ModelKey) -> None:
        """As `reload`, ahead of anyone's need: behind other loads, and evicting nothing.

        Raises:
            MemoryRefused: there is no room without evicting.
        """
        if key not in self._flight:
            self._residents.ahead.add(key)
        try:
            (await self._flight.join(key, partial(self._load, key, "loaded ahead"))).release()
        finally:
            self._residents.ahead.discard(key)

    async def reload(self, key: ModelKey) -> None:
        """As `join`; returns when the newest version has taken over."""
        (await self.join(key)).release()

    async def copy(self, entry: Entry, reason: str) -> Entry:
        """One more copy of what answers for the key of `entry`, in a worker that has none.

        Raises:
            MmeError: why there is none; no failure is remembered.
        Cancellation: nothing is left behind.
        """
        try:
            async with asyncio.timeout(self._config.load_seconds):
                tenant = entry.loaded.residency.tenant
                return await self._fetch_and_place(entry.key, tenant, beside=entry, reason=reason)
        except TimeoutError:
            raise ModelNotReady(f"No copy within {self._config.load_seconds:g} s.") from None

    def fits(self, tenant: str, more_bytes: int) -> bool:
        """As the tenant's quota."""
        return self._quota.fits(tenant, more_bytes)

    async def close(self) -> None:
        """Gives up loads under way; who waits for one gets Draining."""
        await self._flight.close()

    async def _load(
        self, key: ModelKey, reason: str = "asked for", api_key: str | None = None
    ) -> Entry:
        """One flight: the miss path, unless it is known to fail; remembers how it failed."""
        await self._refuse_known_failure(key)
        try:
            async with asyncio.timeout(self._config.load_seconds):
                self.placing.refuse_again(key)
                tenant = self._quota.tenants.tenant_of(key, api_key)
                with stage("load"):
                    if (entry := await self.recall.with_room(key, tenant)) is not None:
                        return entry
                    return await self._fetch_and_place(key, tenant, reason=reason)
        except TimeoutError:
            late = LoadFailed(f"Not loaded within {self._config.load_seconds:g} s.")
            raise self._failed(key, late) from None
        except (
            MemoryRefused,
            Overloaded,
        ) as error:  # not remembered: what is unloaded next may make room
            self._records.add("refused", key, 0, str(error))
            raise
        except ModelError as error:
            raise self._failed(key, error) from None
        except ArtifactUnavailable as error:
            self.failures.forget(key)
            self._records.add(ABSENT, key, 0, str(error))
            raise
        except (StoreUnavailable, DiskUnavailable) as error:
            self._records.add(UNAVAILABLE, key, 0, str(error))
            raise

    async def _fetch_and_place(
        self, key: ModelKey, tenant: str, *, beside: Entry | None = None, reason: str
    ) -> Entry:
        """The whole miss path: fetch and unpack -> make room -> load -> current.

        With `beside`, what is current already gets a copy where neither that nor another one is.
        """
        asked_at = time.monotonic()
        artifact: Artifact | None = None
        loaded: LoadedModel | None = None
        try:
            await self._quota.may_load(tenant)
            turn = self._turn(key, tenant, is_copy=beside is not None)
            async with turn as pause, self._artifacts.lease(key, pause) as artifact:
                self._quota.fetched(tenant, artifact.fetched_bytes)
                current = self._residents.current(key)
                if beside is None and current is not None and current.version == artifact.version:
                    return current.confirm(asked_at, self._config.refresh_seconds)
                copies = () if beside is None else {beside, *self._residents.copies(key)}
                loaded = await self.placing.place(
                    artifact, tenant, tuple(copy.slot for copy in copies)
                )
        except BaseException as error:
            if artifact is not None and loaded is not None:
                self._residents.abandon(loaded)
            if artifact is not None and isinstance(error, ModelError):
                error.etag = artifact.version.etag
            raise
        if not loaded.residency.alive:  # its worker ended since; its reservation went with it
            self._residents.release(loaded.residency.model)
            return await self._fetch_and_place(key, tenant, beside=beside, reason=reason)
        if beside is not None:
            self._keep_copy(artifact, loaded)
        return self._admit(artifact, loaded, asked_at, reason)

    @contextlib.asynccontextmanager
    async def _turn(self, key: ModelKey, tenant: str, *, is_copy: bool) -> AsyncIterator[Pause]:
        """A turn; a load that has had one goes on, though all who asked for it leave."""
        ahead = self._residents.ahead
        turn = self._turns.turn(key, tenant, ahead=lambda: is_copy or key in ahead)
        async with turn as pause:
            if not is_copy:
                self._flight.begin(key)
            yield pause

    def _keep_copy(self, artifact: Artifact, loaded: LoadedModel) -> None:
        """Gives a copy up whose original has left, or was overtaken by another version."""
        copies = self._residents.copies(artifact.version.key)
        if artifact.version not in {copy.version for copy in copies}:
            self._residents.abandon(loaded)
            raise ModelNotReady("What was to be copied is not in memory any more.")

    def _admit(
        self, artifact: Artifact, loaded: LoadedModel, asked_at: float, reason: str
    ) -> Entry:
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
        self._residents.admit(entry.confirm(asked_at, self._config.refresh_seconds), reason)
        self.failures.forget(entry.key)
        self._loaded.inc()
        told = {
            "model": entry.key,
            "bytes": loaded.resident_bytes,
            "fetch_seconds": round(artifact.fetch_seconds, 6),
            "load_seconds": round(loaded.load_seconds, 6),
            "from_disk": artifact.fetched_bytes == 0,
        }
        if self._write_info is not None:
            self._write_info("model_loaded", told)
        else:
            _log.info("model_loaded", **told)
        return entry

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
        self._failed_loads.inc()
        _log.warning("model_not_loaded", model=key, reason=str(error))
        return error
