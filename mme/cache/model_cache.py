"""Is the model in memory: `lease` says yes at once, or waits for the miss path, `loading.py`.

What is in memory is kept by `residents.py`, whether it still is current by `freshness.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import msgspec

from mme.cache.accesses import AccessLog
from mme.cache.blame import STRIKES_TO_QUARANTINE, Blame
from mme.cache.copying import Copying
from mme.cache.entry import Entry
from mme.cache.freshness import Freshness
from mme.cache.lease import Lease, Leasing
from mme.cache.ledger import Ledger
from mme.cache.loading import Loading
from mme.cache.quota import Quota
from mme.cache.records import Records
from mme.cache.residents import Residents
from mme.cache.sliced import sliced
from mme.cache.waiting import Place, Waiting, overloaded
from mme.config import CacheConfig
from mme.domain import ModelKey
from mme.errors import CacheThrashing, LoadFailed, MemoryRefused, MmeError, ModelNotReady
from mme.metrics import Metrics
from mme.store.base import Artifacts, Versions
from mme.workers.ends import Suspects
from mme.workers.environments import Environments
from mme.workers.limits import Limits
from mme.workers.pool import Pool
from mme.workers.slot import Residency

_SLICE: Final = 100  # models told of in one go of the event loop's


class ModelCache:
    """The models of one store in the memory of one pool."""

    def __init__(  # noqa: PLR0913 - it is where store and workers meet
        self,
        config: CacheConfig,
        *,
        ledger: Ledger[str],
        store: Versions,
        artifacts: Artifacts,
        pool: Pool,
        environments: Environments,
        records: Records,
        metrics: Metrics,
        may_evict: bool = True,
        limits: Limits,
        waiting: Waiting,
    ) -> None:
        self._waiting, self._tenants = waiting, limits.tenants
        self._budget_bytes, self.records, self._metrics = ledger.budget_bytes, records, metrics
        self.accesses, self.blame = AccessLog(time.monotonic()), Blame()
        self.residents = Residents(
            ledger, may_evict=may_evict, pool=pool, records=records, metrics=metrics
        )
        self.loading = Loading(
            config,
            store=store,
            artifacts=artifacts,
            pool=pool,
            environments=environments,
            residents=self.residents,
            records=records,
            metrics=metrics,
            quota=Quota(limits, self.residents),
            blame=self.blame,
            left_limit=waiting.total_limit,
        )
        self.failures = self.loading.failures
        self.copying = Copying(config, pool=pool, residents=self.residents, loading=self.loading)
        self._freshness = self._build_freshness(config, store, artifacts)

    def _build_freshness(
        self, config: CacheConfig, store: Versions, artifacts: Artifacts
    ) -> Freshness:
        return Freshness(
            config.refresh_seconds,
            store=store,
            artifacts=artifacts,
            residents=self.residents,
            reload=self.loading.reload,
        )

    async def close(self) -> None:
        """Gives up loads and checks under way; who waits for one gets Draining."""
        await self.copying.close()
        await self._freshness.close()
        await self.loading.close()
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

    def hit(self, key: ModelKey) -> Lease | None:
        """As `acquire`, if that needs no waiting: in memory, and known to be current."""
        asked_at = time.monotonic()
        entry = self.residents.current(key)
        if entry is None or asked_at >= entry.check_at:
            return None
        return self._hit(entry, asked_at)

    async def acquire(
        self,
        key: ModelKey,
        deadline: float,
        api_key: str | None = None,
        *,
        is_request: bool = True,
    ) -> Lease:
        """A lease that the caller must release, and that `api_key` asks for; see `lease`.

        A request for a cold model raises Overloaded besides, where too many wait for loads.
        """
        asked_at = time.monotonic()
        entry = self.residents.current(key)
        if entry is not None and asked_at >= entry.check_at:
            entry = await self._freshness.checked(entry, asked_at, deadline)
        if entry is not None:
            return self._hit(entry, asked_at)
        try:
            lease = self._recalled(key, asked_at, api_key)
            if lease is None:
                lease = await self._loaded(key, deadline, api_key, is_request=is_request)
            if asked_at >= lease.entry.check_at:  # it was recalled
                self._freshness.check_soon(key)
        except (MemoryRefused, CacheThrashing):
            self.accesses.note_refused(key, asked_at)
            raise
        self._note(lease.entry, asked_at, hit=False)
        lease.hit = False
        lease.load_seconds = time.monotonic() - asked_at
        self._metrics.model_cache_hit.observe(0)
        self._metrics.model_loading_wait_time.observe(lease.load_seconds * 1e6)
        return lease

    async def unload(self, key: ModelKey) -> bool:
        """Takes a model out of memory; returns when its memory is back. False: it was not there.

        A load under way is waited for first. Cancellation: what has begun goes on.
        """
        if key in self.loading:
            with contextlib.suppress(MmeError):
                await self.loading.reload(key)
        self.residents.kept.drop(key)
        copies = self.residents.copies(key)
        await self.residents.unload(copies, "unloaded", "asked to")
        return bool(copies)

    async def refresh(self, key: ModelKey) -> None:
        """Asks the store for a newer version of what is in memory; see Freshness.refresh."""
        await self._freshness.refresh(key)

    def lost(self, residencies: list[Residency], suspects: Suspects, cause: str) -> None:
        """A worker ended, and these with it. Who ends worker after worker is quarantined."""
        batch = suspects.batch
        entry = self.residents.find(batch.model) if batch is not None else None
        content = entry.version.digest if entry is not None else ""
        strikes = self.blame.ended(
            suspects.loading,
            content,
            has_answered=suspects.has_answered,
            is_sure=suspects.is_sure,
        )
        if entry is not None and strikes >= STRIKES_TO_QUARANTINE:
            why = f"The model ended its worker {strikes} times and is quarantined"
            error = LoadFailed(f"{why}; the last time: {cause}.")
            times, now = strikes - STRIKES_TO_QUARANTINE + 1, time.monotonic()
            self.failures.remember(entry.key, error, entry.version.etag, now, times)
        self.residents.lose(residencies, cause)

    def describe(self) -> dict[str, object]:
        """Memory, loads, failures and records, for `/state`."""
        now, ledger = time.monotonic(), self.residents.ledger
        return {
            "memory": {
                "budget_bytes": ledger.budget_bytes,
                "configured_bytes": self._budget_bytes,
                "reserved_bytes": ledger.reserved_bytes,
                "resident_bytes": ledger.resident_bytes,
                "leaving_bytes": ledger.leaving_bytes,
            },
            "loading": self.loading.keys(),
            "waiting_for_loads": self._waiting.count,
            "kept": len(self.residents.kept),
            "failures": self.failures.describe(now),
            "events": self.records.describe(),
        }

    def describe_models(self) -> list[dict[str, object]]:
        """Each model in memory, for `/state`; 50 ms with 10,000 models."""
        now = time.monotonic()
        return [entry.describe(now) for entry in self.residents]

    async def tell_models(self) -> msgspec.Raw:
        """As `describe_models`, as JSON; others have their turns meanwhile."""
        now, told = time.monotonic(), bytearray(b"[")
        async for some in sliced(tuple(self.residents), _SLICE):
            told += b"," * (len(told) > 1)
            told += b",".join([msgspec.json.encode(entry.describe(now)) for entry in some])
        told += b"]"
        return msgspec.Raw(told)

    async def _loaded(
        self, key: ModelKey, deadline: float, api_key: str | None, *, is_request: bool
    ) -> Lease:
        """By a load under way or one of its own; a request in one of the places for who waits."""
        place: Place | None = None
        try:
            async with asyncio.timeout_at(deadline) as limit:

                def give_up() -> None:
                    with contextlib.suppress(RuntimeError):  # its time is over already
                        limit.reschedule(0.0)

                with contextlib.ExitStack() as held:
                    if is_request:
                        tenant = self._tenants.tenant_of(key, api_key)
                        place = held.enter_context(self._waiting.place(key, tenant, give_up))
                    return await self.loading.join(key, api_key)
        except TimeoutError:
            if place is not None and place.is_given_up:
                raise overloaded() from None
            raise ModelNotReady(f"Model {key} is still being loaded; try again.") from None

    def _recalled(self, key: ModelKey, asked_at: float, api_key: str | None) -> Lease | None:
        entry = None if key in self.loading else self.loading.recall.at_once(key, asked_at, api_key)
        return None if entry is None else Lease(self.residents, entry)

    def _hit(self, entry: Entry, asked_at: float) -> Lease:
        entry.hits += 1
        entry.used_at = asked_at
        self._metrics.model_cache_hit.observe(1)
        self._note(entry, asked_at, hit=True)
        return Lease(self.residents, entry)

    def _note(self, entry: Entry, asked_at: float, *, hit: bool) -> None:
        loaded = entry.loaded
        self.accesses.note(
            entry.key,
            asked_at,
            hit=hit,
            size_bytes=loaded.resident_bytes,
            load_seconds=loaded.load_seconds,
        )
