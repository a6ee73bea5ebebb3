"""The shared pool: where a model goes, which batch goes next, what happens when a worker ends.

A model lives in one worker, the one with the fewest resident bytes when it was loaded. A worker
that ends is replaced with back-off; its models are told to `on_lost` and reloaded when asked for;
only the batch it was at is lost, what had not begun is raised as `WorkerLost(started=False)` so
that the caller may ask again. A worker that can't start at all stops the server: `start` raises.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from mme.config import WorkerConfig
from mme.errors import LoadFailed, Overloaded, WorkerLost
from mme.metrics import Metrics
from mme.workers.process import WorkerStartError
from mme.workers.protocol import Ask, CallFailed
from mme.workers.queues import Outcome, Ticket
from mme.workers.slot import Residency, Slot

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """A model in a worker's memory, as measured there."""

    residency: Residency
    resident_bytes: int
    load_seconds: float
    framework: str


class Pool:
    """Workers and the queues in front of them.

    Args:
        config: how many, with how many threads, and the limits.
        on_lost: told which residencies went with a worker, and which one of them (if any) was
            running.
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        workers: int,
        threads: int,
        metrics: Metrics,
        on_lost: Callable[[list[Residency], list[Residency], str], None],
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._worker_ready = asyncio.Event()
        self._slots = [
            Slot(
                index,
                config,
                threads=threads,
                metrics=metrics,
                on_ready=self._worker_ready.set,
                on_lost=on_lost,
            )
            for index in range(workers)
        ]

    async def start(self) -> None:
        """Starts all workers at once.

        Raises:
            WorkerStartError: one could not start; all others are ended then.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self._slots:
                    group.create_task(slot.start())
        except BaseExceptionGroup as errors:
            await self.close()
            raise next(
                (error for error in errors.exceptions if isinstance(error, WorkerStartError)),
                errors,
            ) from None

    async def close(self) -> None:
        """Ends all workers and waits until they are reaped; what waits gets WorkerLost."""
        async with asyncio.TaskGroup() as group:
            for slot in self._slots:
                group.create_task(slot.close())

    @property
    def ready_count(self) -> int:
        """Workers that can serve now."""
        return sum(slot.is_ready for slot in self._slots)

    @property
    def waiting_count(self) -> int:
        """Requests queued for any worker."""
        return sum(slot.queue.waiting_count for slot in self._slots)

    async def load(self, model: str, name: str, directory: str, size_bytes: int) -> LoadedModel:
        """Loads an artifact into the worker with the fewest bytes.

        Args:
            model: an opaque id, unique to the artifact's content.
            name: for the log.
            directory: the extracted artifact.
            size_bytes: what is reserved for it; counts for placement while it loads.

        Raises:
            LoadFailed: the model's fault, with the worker's reason.
            WorkerLost: the worker ended meanwhile.
        Cancellation: once it has begun, the worker is ended.
        """
        slot = await self._choose()
        slot.assigned_bytes += size_bytes
        try:
            answer = await slot.load(model, name, directory)
        finally:
            slot.assigned_bytes -= size_bytes
        if isinstance(answer, CallFailed):
            if answer.fault.detail:
                _log.warning("load_raised", model=name, detail=answer.fault.detail)
            raise LoadFailed(answer.fault.message, answer.fault.status)
        self._metrics.model_loading_time.observe(answer.seconds * 1e6)
        return LoadedModel(
            residency=slot.residency(model),
            resident_bytes=answer.resident_bytes,
            load_seconds=answer.seconds,
            framework=answer.framework,
        )

    async def unload(self, residencies: list[Residency]) -> None:
        """Returns when the memory of all is back: confirmed by the worker, or by its end."""
        by_slot: dict[Slot, list[Residency]] = {}
        for residency in residencies:
            by_slot.setdefault(residency.slot, []).append(residency)
        async with asyncio.TaskGroup() as group:
            for slot, leaving in by_slot.items():
                group.create_task(slot.unload(leaving))

    async def predict(self, residency: Residency, ask: Ask) -> Outcome:
        """Queues a request for its model's worker and waits for the answer.

        Raises:
            Overloaded: the queues are full.
            WorkerLost: the worker ended; `started` tells whether the request may have run.
        Cancellation: a request not yet handed over is dropped; one that runs, runs unheard.
        """
        slot = residency.slot
        queue = slot.queue
        if queue.waiting_count and (
            queue.waiting_for(residency.model) >= self._config.queue_per_model
            or self.waiting_count >= self._config.queue_total
        ):
            raise Overloaded("Too many requests are waiting for this model.")
        if not residency.alive:
            raise WorkerLost("The worker has ended.", started=False)
        loop = asyncio.get_running_loop()
        ticket = Ticket(residency.model, ask, loop.create_future(), time.monotonic())
        queue.put(ticket)
        slot.dispatch(ticket.queued_at)
        try:
            return await ticket.outcome
        except asyncio.CancelledError:
            queue.discard(ticket)
            raise

    def describe(self) -> list[dict[str, object]]:
        """Each worker's state, for `/state`."""
        return [slot.describe() for slot in self._slots]

    async def _choose(self) -> Slot:
        while not (ready := [slot for slot in self._slots if slot.is_ready]):
            self._worker_ready.clear()
            await self._worker_ready.wait()
        return min(ready, key=lambda slot: (slot.resident_bytes + slot.assigned_bytes, slot.index))
