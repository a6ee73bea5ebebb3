"""The shared pool: where a model goes, which batch goes next, what happens when a worker ends.

A copy of a model lives in one worker, the one with the fewest resident bytes when it was loaded,
of those that have no other copy. A worker that ends is replaced with back-off; its models are told
to `on_lost` and reloaded when asked for; only the batch it was at is lost, what had not begun is
raised as `WorkerLost(started=False)` so that the caller may ask again. A model with an environment
of its own goes to workers of that environment, which are started for the first of them and ended
when they have had none for a while.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from mme.config import TenantConfig, WorkerConfig
from mme.errors import LoadFailed, WorkerLost
from mme.metrics import Metrics
from mme.workers.admission import admit, look_from
from mme.workers.batch import Outcome, Ticket
from mme.workers.deadlines import Deadlines
from mme.workers.ends import Suspects
from mme.workers.environments import Environment
from mme.workers.group import Group
from mme.workers.pacing import Pacer
from mme.workers.process import WorkerProcess, WorkerStartError
from mme.workers.protocol import Ask, CallFailed, Loaded
from mme.workers.recycling import Recycler
from mme.workers.residency import LoadedModel, LoadRequest, Residency, shared
from mme.workers.slot import Slot

__all__ = ["LoadRequest", "LoadedModel", "Pool"]

_log = structlog.get_logger()


class Pool:
    """Workers and the queues in front of them.

    Args:
        config: how many, with how many threads, and the limits.
        tenants: whose requests are whose.
        pacer: who holds a tenant back that floods; None: nobody does.
        on_lost: told which residencies went with a worker, who can have ended it, and why it did.
        on_recycle: told which residencies have to leave a worker that is being replaced: load them
            elsewhere and unload them here. None: no worker is replaced for the memory it lost.
    """

    def __init__(  # noqa: PLR0913 - where workers and the rooms before them meet
        self,
        config: WorkerConfig,
        *,
        workers: int,
        threads: int,
        metrics: Metrics,
        on_lost: Callable[[list[Residency], Suspects, str], None],
        on_recycle: Callable[[list[Residency]], None] | None = None,
        tenants: TenantConfig = TenantConfig(),  # noqa: B008 - frozen
        pacer: Pacer | None = None,
    ) -> None:
        self._config, self._look_from = config, look_from(config, workers)
        self._by_key, self._pacer = tenants.tenant_by == "key", pacer or Pacer(tenants.weights)
        self._slot_count, self._threads, self._metrics, self._on_lost = 0, threads, metrics, on_lost
        self._base = Group(workers, partial(self._build_slot, None))
        self._others: dict[str, Group] = {}  # by environment
        self._starting: dict[str, asyncio.Task[Group]] = {}
        self._recycler = Recycler(config, on_recycle, self._groups, self._regroup)
        self._regroup()
        self._reaper: asyncio.Task[None] | None = None
        self._deadlines = Deadlines()

    async def start(self) -> None:
        """Starts all workers at once.

        Raises:
            WorkerStartError: one could not start; all others are ended then.
        """
        await self._base.start()
        self._reaper = asyncio.create_task(self._end_idle(), name="idle environments")
        self._recycler.start()

    def stop_replacing(self) -> None:
        """From now on a worker that ends is not missed: the server is shutting down."""
        for slot in self._slots:
            slot.is_closed = True

    async def close(self) -> None:
        """Ends all workers and waits until they are reaped; what waits gets WorkerLost."""
        if tasks := [*self._starting.values(), *([self._reaper] if self._reaper else [])]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._recycler.close()
        async with asyncio.TaskGroup() as closing:
            for group in self._groups():
                closing.create_task(group.close())
        self._deadlines.close()

    @property
    def environments(self) -> list[str]:
        """Digests of the environments that have workers now."""
        return [*self._others, *self._starting]

    @property
    def ready_count(self) -> int:
        """Workers that can serve now."""
        return sum(slot.process is not None for slot in self._base.slots)

    @property
    def waiting_count(self) -> int:
        """Requests queued for any worker."""
        return sum(slot.queue.waiting_count for slot in self._slots)

    def loads_while_late(self) -> int | None:
        """How many loads at once, while requests wait too long for a worker. None: they don't."""
        now = time.monotonic()
        is_late = any(now < slot.queue.late_until for slot in self._slots)
        return self.ready_count if is_late else None

    async def load(self, wanted: LoadRequest) -> LoadedModel:
        """Loads an artifact into the worker with the fewest bytes.

        Raises:
            LoadFailed: the model's fault, with the worker's reason.
            WorkerLost: the worker ended meanwhile.
        Cancellation: once it has begun, the worker is ended.
        """
        loaded = await self._load(wanted)
        if isinstance(loaded, CallFailed):
            fault = loaded.fault
            if fault.detail:
                _log.warning("load_raised", model=wanted.name, detail=fault.detail)
            raise LoadFailed(fault.message, fault.status)
        residency, answer = loaded
        self._metrics.model_loading_time.observe(answer.seconds * 1e6)
        return LoadedModel(
            residency=residency,
            resident_bytes=answer.resident_bytes,
            load_seconds=answer.seconds,
            framework=answer.framework,
            signature=shared(answer.signature),
            peak_bytes=answer.peak_bytes,
            file_bytes=answer.file_bytes,
        )

    async def unload(self, residencies: list[Residency]) -> None:
        """Returns when the memory of all is back: confirmed by the worker, or by its end."""
        by_slot: dict[Slot, list[Residency]] = {}
        for residency in residencies:
            by_slot.setdefault(residency.slot, []).append(residency)
        if len(by_slot) == 1:  # mostly: an eviction for one model
            await residencies[0].slot.unload(residencies)
        else:
            async with asyncio.TaskGroup() as group:
                for slot, leaving in by_slot.items():
                    group.create_task(slot.unload(leaving))

    async def predict(
        self, residency: Residency, ask: Ask, deadline: float = math.inf, key: str | None = None
    ) -> Outcome:
        """Queues a request for its model's worker and waits for the answer.

        Args:
            residency: where the model is.
            ask: the request.
            deadline: on the loop's clock, in seconds; how long to wait.
            key: the name of the API key that asks, if any.

        Raises:
            Overloaded: the queues are full, or too long for the deadline.
            TimeoutError: no answer by the deadline; as with cancellation.
            WorkerLost: the worker ended; `started` tells whether the request may have run.
        Cancellation: a request not yet handed over is dropped; one that runs, runs unheard.
        """
        queue = residency.slot.queue
        tenant = key if self._by_key and key is not None else residency.tenant
        if not residency.alive:
            raise WorkerLost("The worker has ended.", started=False)
        loop = asyncio.get_running_loop()
        if queue.waiting_count >= self._look_from:
            residency.slot.dispatch()  # what may go need not be refused for
            queues = [each.queue for each in self._slots]
            admit(self._config, queues, residency, tenant, deadline - loop.time())
        outcome: asyncio.Future[Outcome] = loop.create_future()
        ticket = Ticket(residency.model, ask, outcome, time.monotonic(), tenant)
        waiting = self._deadlines.until(deadline) if deadline < math.inf else set()
        waiting.add(outcome)
        queue.put(ticket)
        residency.slot.dispatch_soon()
        try:
            return await outcome
        except (asyncio.CancelledError, TimeoutError):
            queue.discard(ticket)
            raise
        finally:
            waiting.discard(outcome)

    def hot(self) -> dict[str, int]:
        """Copies of models that are to be compiled, and the bytes that this may take."""
        return {model: size for each in self._processes() for model, size in each.hot.items()}

    def crowds(self, limit: int) -> list[str]:
        """Copies of models with so many unanswered requests or more."""
        return [model for slot in self._slots for model in slot.queue.crowded(limit)]

    def peers(self, slot: Slot) -> list[Slot]:
        """The ready workers, `slot` perhaps among them, that could have taken its models."""
        group = self._group_of(slot)
        return group.takers() if group else []

    def lent_of(self, artifact: Path) -> list[Path]:
        """What workers have of an artifact that leaves the disk: the caller's to remove."""
        return [path for each in self._processes() for path in each.lent_of(artifact)]

    def describe(self) -> list[dict[str, object]]:
        """Each worker's state, for `/state`."""
        return [slot.describe() for slot in self._slots]

    def _processes(self) -> list[WorkerProcess]:
        return [slot.process for slot in self._slots if slot.process is not None]

    async def _load(self, wanted: LoadRequest) -> tuple[Residency, Loaded] | CallFailed:
        environment = wanted.environment
        group = self._base if environment is None else await self._group(environment)
        group.loading += 1
        try:
            slot = await group.choose(wanted.avoid)
            slot.assigned_bytes += wanted.size_bytes
            try:
                return await slot.load(wanted)
            finally:
                slot.assigned_bytes -= wanted.size_bytes
        finally:
            group.loading -= 1

    def _group_of(self, slot: Slot) -> Group | None:
        return next((group for group in self._groups() if slot in group.slots), None)

    def _groups(self) -> list[Group]:
        return [self._base, *self._others.values()]

    def _regroup(self) -> None:
        self._slots = [slot for group in self._groups() for slot in group.slots]

    def _build_slot(self, environment: Environment | None, group: Group) -> Slot:
        self._slot_count += 1
        return Slot(
            self._slot_count - 1,
            self._config,
            pacer=self._pacer,
            threads=self._threads,
            environment=environment,
            metrics=self._metrics,
            on_ready=group.wake,
            in_use=group.frameworks,
            on_lost=self._on_lost,
        )

    async def _group(self, environment: Environment) -> Group:
        digest = environment.digest
        if digest in self._others:
            return self._others[digest]
        task = self._starting.get(digest)
        if task is None:
            task = asyncio.create_task(self._start_group(environment), name=f"start {digest}")
            self._starting[digest] = task
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _start_group(self, environment: Environment) -> Group:
        group = Group(self._config.environment_workers, partial(self._build_slot, environment))
        try:
            await group.start()
        except WorkerStartError as error:
            raise LoadFailed(
                f"No worker could start with the model's requirements: {error}."
            ) from error
        else:
            self._others[environment.digest] = group
            self._regroup()
            return group
        finally:
            del self._starting[environment.digest]

    async def _end_idle(self) -> None:
        limit_seconds = self._config.environment_idle_seconds
        while True:
            await asyncio.sleep(min(limit_seconds / 4, 5.0))
            for digest, group in tuple(self._others.items()):
                if group.idle_seconds() >= limit_seconds:
                    del self._others[digest]
                    self._regroup()
                    await group.close()
                    _log.info("environment_stopped", environment=digest)
