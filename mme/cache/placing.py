"""A load into a worker: what it reserves, what it is charged in the end, whom it may push out.

Decision: memory is reserved when a worker is about to be free, for one load that it is at and one
more: what waits for its worker took half of a small budget's room before, and had it emptied.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from itertools import count
from weakref import WeakValueDictionary

from msgspec.structs import replace

from mme.cache.blame import Blame
from mme.cache.churn import Churn
from mme.cache.entry import Entry
from mme.cache.quota import Quota
from mme.cache.residents import Residents
from mme.cache.sizes import SizeEstimates, likeness, likeness_of_files
from mme.domain import ModelKey
from mme.errors import WorkerLost
from mme.store.base import Artifact
from mme.tracing import stage
from mme.workers.environments import Environment, Environments
from mme.workers.few_files import few_files
from mme.workers.pool import LoadedModel, LoadRequest, Pool
from mme.workers.slot import Slot

_REFUSED_LIMIT = 100_000
_LOADS_PER_WORKER = 2  # one that it is at, one whose room is made meanwhile
_RETRY_SECONDS = 0.01
_numbers = count(1)  # of copies, so that what comes is not taken for what leaves


class Placing:
    """Loads artifacts that are on disk, and learns what they take."""

    def __init__(  # noqa: PLR0913 - all that a load touches
        self,
        *,
        pool: Pool,
        environments: Environments,
        residents: Residents,
        churn: Churn,
        quota: Quota,
        blame: Blame,
    ) -> None:
        self.churn = churn
        self._pool = pool
        self._environments = environments
        self._residents = residents
        self._quota = quota
        self._blame = blame
        self._sizes = SizeEstimates()
        self._refused: dict[ModelKey, int] = {}  # the bytes that they wanted
        self._gates: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def wanted_bytes(self, entry: Entry) -> int:
        """What one more copy of `entry` would reserve."""
        limit_bytes = self._residents.ledger.budget_bytes
        return self._sizes.estimate(entry.version, entry.unpacked_bytes, limit_bytes)

    async def place(self, artifact: Artifact, tenant: str, avoid: tuple[Slot, ...]) -> LoadedModel:
        """Reserves, loads, settles; who took more than can be had starts over, its size known.

        Args:
            artifact: what is to be loaded.
            tenant: for whom.
            avoid: workers that it must not go to.

        Raises:
            CacheThrashing, MemoryRefused, Throttled: there is no room for it.
            ModelError: it can't be loaded; WorkerLost when it is to blame for a worker's end.
        Cancellation: nothing is left behind.
        """
        files, environment = few_files(artifact.directory), None
        if files is None:  # else it asks for none
            at, in_use = artifact.directory, self._pool.environments
            environment = await self._environments.obtain(at, in_use)
        like, gate = await self._like(artifact, files), self._gate(environment)
        request = LoadRequest(
            model="", name=artifact.version.key, content=artifact.version.digest, tenant=tenant,
            directory=str(artifact.directory), files=None if files is None else tuple(files),
            size_bytes=0, environment=environment, avoid=avoid,
        )  # fmt: skip
        while True:
            try:
                async with gate:
                    loaded = await self._attempt(artifact, like, request)
            except WorkerLost as lost:
                if lost.started and not self._blame.may_load_again(request.content):
                    raise
                if not lost.started:  # nor may it be known yet that the worker has ended
                    await asyncio.sleep(_RETRY_SECONDS)
                continue
            if loaded is not None:
                return loaded

    def _gate(self, environment: Environment | None) -> asyncio.Semaphore:
        """Passed by as many loads at once as the workers of `environment` can make use of."""
        digest = environment.digest if environment else ""
        gate = self._gates.get(digest)
        if gate is None:
            loads = _LOADS_PER_WORKER * max(1, self._pool.ready_count)
            gate = self._gates[digest] = asyncio.Semaphore(loads)
        return gate

    async def _attempt(
        self,
        artifact: Artifact,
        like: str,
        request: LoadRequest,
    ) -> LoadedModel | None:
        """None where it took more than it had reserved and than can be had without waiting."""
        version, residents = artifact.version, self._residents
        copy_id = f"{version.digest}+{next(_numbers)}"
        wanted_bytes = self._sizes.estimate(
            version, artifact.unpacked_bytes, residents.ledger.budget_bytes, like
        )
        self._refuse_churn(version.key, wanted_bytes)
        request = replace(request, model=copy_id, size_bytes=wanted_bytes)
        with self._quota.loading(request.tenant, wanted_bytes):
            await self._quota.make_room(request.tenant, wanted_bytes)
            with stage("make room"):
                await residents.reserve(copy_id, version.key, wanted_bytes)
            try:
                with stage("load in a worker"):
                    loaded = await self._pool.load(request)
            except BaseException:
                residents.release(copy_id)
                raise
            self._blame.came_up(version.digest)
            self._learn(artifact, loaded, like)
            return await self._settled(loaded, version.key)

    async def _settled(self, loaded: LoadedModel, key: ModelKey) -> LoadedModel | None:
        """`loaded`, charged what it takes; None, once it has left, where that can't be had."""
        residents = self._residents
        try:
            if await residents.settle(loaded.residency.model, key, loaded.resident_bytes):
                return loaded
        except BaseException:
            residents.abandon(loaded)
            raise
        await asyncio.wait([residents.abandon(loaded)])
        return None

    async def _like(self, artifact: Artifact, files: Mapping[str, int] | None) -> str:
        """What is to be known of it; nothing where its size is."""
        if self._sizes.is_known(artifact.version):
            return ""
        if files is None:
            return await asyncio.to_thread(likeness, artifact.directory)
        return likeness_of_files(files)

    def _learn(self, artifact: Artifact, loaded: LoadedModel, like: str) -> None:
        self._sizes.learn(
            artifact.version,
            artifact.unpacked_bytes,
            loaded.resident_bytes,
            loaded.peak_bytes,
            framework=loaded.framework,
            like=like,
        )

    def refuse_again(self, key: ModelKey) -> None:
        """Raises CacheThrashing where that would be the end of it, before anything is fetched."""
        if (wanted_bytes := self._refused.get(key)) is not None:
            self._refuse_churn(key, wanted_bytes)

    def _refuse_churn(self, key: ModelKey, wanted_bytes: int) -> None:
        ledger, now = self._residents.ledger, time.monotonic()
        victim = self._residents.find(ledger.first() or "")
        fits = ledger.charged_bytes + wanted_bytes <= ledger.budget_bytes
        if not fits and victim is not None and not self._residents.copies(key):
            self._refused[key] = wanted_bytes
            if len(self._refused) > _REFUSED_LIMIT:
                del self._refused[next(iter(self._refused))]
            self.churn.refuse(key, victim.as_victim(now), now)
        self._refused.pop(key, None)
