"""One place in the pool: a worker process, its queues, its models; and its successor when it ends.

States: starting -> ready -> (ended -> waiting out the back-off -> starting) ... -> closed. What a
dead worker had is settled in one step, `_ended`: queues, residencies, then `on_lost`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace

import structlog

from mme.config import WorkerConfig
from mme.errors import WorkerLost
from mme.metrics import Metrics
from mme.workers.backoff import Backoff
from mme.workers.batch_limits import BatchLimits
from mme.workers.charging import charge
from mme.workers.dispatch import Dispatch
from mme.workers.ends import Cause, Doing, Suspects, suspects
from mme.workers.environments import Environment
from mme.workers.pacing import Pacer
from mme.workers.patience import Patience
from mme.workers.preload import Preload
from mme.workers.process import WorkerProcess, WorkerStartError
from mme.workers.protocol import Absent, CallFailed, Loaded, Predicted, Recall
from mme.workers.queues import WorkerQueue
from mme.workers.residency import LoadRequest, Residencies, Residency
from mme.workers.slot_state import describe
from mme.workers.spec import WorkerSpec

__all__ = ["Residency", "Slot"]

_log = structlog.get_logger()
_LOADS = 2  # on their way: one that the worker is at, one that it need not wait for then


class Slot:
    """One worker of the pool, whatever process stands for it now."""

    def __init__(  # noqa: PLR0913 - its pool is its only builder
        self,
        index: int,
        config: WorkerConfig,
        *,
        pacer: Pacer,
        threads: int,
        environment: Environment | None,
        metrics: Metrics,
        on_ready: Callable[[], None],
        in_use: Callable[[], Collection[str]],
        on_lost: Callable[[list[Residency], Suspects, str], None],
    ) -> None:
        self.index = index
        limits = BatchLimits(
            requests=config.batch_requests, rows=config.batch_rows, bytes=config.batch_bytes
        )
        self.queue = WorkerQueue(limits, pacer)
        dispatch = Dispatch(self.queue, lambda: self.process, metrics)
        self.dispatch, self.dispatch_soon = dispatch.now, dispatch.soon
        self.residencies = Residencies()
        self.assigned_bytes = 0  # of loads on their way
        self._preload = Preload(WorkerSpec.of(index, config, threads, environment), in_use)
        self._environment, self._config, self._metrics = environment, config, metrics
        self._on_ready, self._on_lost = on_ready, on_lost
        self.process: WorkerProcess | None = None  # what serves here now
        self._load_turns = asyncio.Semaphore(_LOADS)
        self._loading: dict[str, tuple[str, float]] = {}  # names, since when; it is at the first
        self._started_at, self._backoff = 0.0, Backoff()
        self._tasks: set[asyncio.Task[None]] = set()
        # Its worker's end is no accident any more; it takes no loads, and has no successor here.
        self.is_closed = self.is_leaving = False

    @property
    def age_seconds(self) -> float:
        """Since its process was ready."""
        return time.monotonic() - self._started_at

    @property
    def loading_seconds(self) -> float:
        """For how long it has been at one load."""
        first = next(iter(self._loading.values()), None)
        return time.monotonic() - first[1] if first else 0.0

    async def start(self) -> None:
        """Starts the process. Raises WorkerStartError."""
        process = WorkerProcess(
            self._preload.next_spec(), self._predicted, lambda cause: self._ended(process, cause)
        )
        await process.start()
        if self.is_closed:
            await process.end("the server is shutting down")
            return
        if process.has_ended:
            raise WorkerStartError("worker ended as soon as it was ready")
        self.process = process
        self._preload.succeeded()
        self._started_at = time.monotonic()
        self._metrics.workers_ready.inc()
        self._on_ready()
        if not self._tasks:
            self._own(self._watch())
        self.dispatch_soon()

    async def retire(self) -> None:
        """Takes no more loads; returns when those under way have ended."""
        self.is_leaving = True
        async with self._load_turns, self._load_turns:  # all _LOADS of them
            pass

    async def close(self, reason: str = "the server is shutting down") -> None:
        """Ends the process and waits until it is reaped."""
        self.is_closed = True
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self.process is not None:
            await self.process.end(reason)

    async def load(self, wanted: LoadRequest) -> tuple[Residency, Loaded] | CallFailed:
        """Loads a model here, one after the other; see Pool.load.

        Cancellation: once handed over, the worker is ended: its loading thread can't be stopped.
        """
        process = self._serving()
        try:
            directory = await process.lend(wanted)  # while others load
            async with self._load_turns:
                return await self._load(process, wanted, directory)
        finally:
            if wanted.model not in self.residencies:
                process.take_back([wanted.model])

    async def _load(
        self, process: WorkerProcess, wanted: LoadRequest, directory: str
    ) -> tuple[Residency, Loaded] | CallFailed:
        if self.is_leaving:  # since it was chosen
            raise WorkerLost("The worker is being replaced.", started=False)
        self._loading[wanted.model] = wanted.name, time.monotonic()
        try:
            answer = await process.load(wanted, directory)
        except asyncio.CancelledError:
            process.kill(f"loading {wanted.name} was given up")
            raise
        finally:
            del self._loading[wanted.model]
        if isinstance(answer, CallFailed):
            return answer
        residency = Residency(
            self, wanted.model, wanted.name, wanted.tenant, answer.resident_bytes, answer.framework,
            kept_by=process if answer.keeps else None,
        )  # fmt: skip
        self.residencies.add(residency)
        if answer.keeps:
            process.take_back([wanted.model])  # never read again: for the next one
        return residency, answer

    def recall(
        self, former: Residency, model: str, content: str, tenant: str, leaving: list[Residency]
    ) -> Residency:
        """Brings back what this worker has kept, under a new id, once it has dropped `leaving`.

        Nobody waits: requests may follow at once. Was it lost after all, they fail as not begun.
        """
        for residency in leaving:
            self._forget(residency)
        residency = replace(former, model=model, tenant=tenant, alive=True, account=None)
        self.residencies.add(residency)
        size_bytes, models = residency.resident_bytes, [each.model for each in leaving]
        self._serving().recall(Recall(model, former.name, content, size_bytes, models))
        return residency

    async def compile(self, model: str, room_bytes: int) -> Loaded | CallFailed:
        """Compiles a model here, in turn with loads. Cancellation: as `load`."""
        async with self._load_turns:
            process = self._serving()
            try:
                return await process.compile(model, room_bytes)
            except asyncio.CancelledError:
                process.kill("compiling was given up")
                raise

    async def unload(self, leaving: list[Residency]) -> None:
        """Returns when their memory is back; a worker that fails at it is ended, which does it."""
        here = [residency for residency in leaving if residency.alive]
        for residency in here:
            self._forget(residency)
        if not here or (process := self.process) is None:
            return
        try:
            answer = await process.unload([residency.model for residency in here])
        except WorkerLost:
            return
        if isinstance(answer, CallFailed):
            _log.error("unload_failed", worker=self.index, detail=answer.fault.detail)
            await process.end("an unload failed")
            return
        process.private_bytes, process.lost_bytes = answer.private_bytes, answer.lost_bytes
        self._metrics.model_unloading_time.observe(answer.seconds * 1e6)

    def describe(self) -> dict[str, object]:
        """This worker's state, for `/state`."""
        loading = next(iter(self._loading.values()), ("", 0.0))[0]
        return describe(self, self.process, self._environment, loading, self._backoff.count)

    def _serving(self) -> WorkerProcess:
        if self.process is None:
            raise WorkerLost("The worker has ended.", started=False)
        return self.process

    def _forget(self, residency: Residency) -> None:
        self.residencies.remove(residency)
        self.queue.forget(residency.model)

    def _predicted(self, message: Predicted | Absent) -> None:
        if isinstance(message, Absent):
            self._absent(message)
            return
        batch = self.queue.finish(message.batch, time.monotonic(), message.seconds, message.left)
        if batch is None or batch.unsettled != len(message.results) + message.left:
            self._serving().kill("it answered what was not asked", Doing.BATCH)
            return
        if not message.left:
            self.dispatch()
            charge(self.residencies, batch, message.seconds)
            self._metrics.predict_seconds.observe(message.seconds)
        batch.settle(message.results, message.seconds)

    def _absent(self, message: Absent) -> None:
        """What was to be recalled for a batch had not been kept after all."""
        batch = self.queue.finish(message.batch, time.monotonic())
        if batch is not None:
            for ticket in (*batch.tickets, *self.queue.withdraw(batch.model)):
                ticket.fail(WorkerLost("The model has to be loaded again.", started=False))
            if (residency := self.residencies.get(batch.model)) is not None:
                self._forget(residency)
                self._serving().missing.append(batch.model)
                self._on_lost([residency], Suspects(), "its worker had not kept it")
        self.dispatch()

    def _ended(self, process: WorkerProcess, cause: Cause) -> None:
        if process is not self.process:
            return  # it never became this slot's worker: `start` raises
        self.process = None
        self._metrics.workers_ready.dec()
        charge(self.residencies, self.queue.running)
        suspected = self._suspects(process, cause)
        started, waiting = self.queue.abandon()
        for tickets, begun in ((started, True), (waiting, False)):
            for ticket in tickets:
                ticket.fail(WorkerLost(f"The worker ended: {cause.words}.", started=begun))
        lost = list(self.residencies)
        self._preload.lost(lost)
        for residency in lost:
            self._forget(residency)
        self._on_lost(lost, suspected, cause.words)
        if not self.is_closed:
            pid, models = process.pid, len(lost)
            _log.error("worker_ended", worker=self.index, pid=pid, cause=cause.words, models=models)
            if not self.is_leaving:
                self._own(self._replace())

    def _suspects(self, process: WorkerProcess, cause: Cause) -> Suspects:
        model = cause.model or (running.model if (running := self.queue.running) else "")
        return suspects(
            cause.doing,
            batch=self.residencies.get(model),
            has_answered=self.queue.has_answered(model),
            loading=process.loading,
        )

    async def _replace(self) -> None:
        self._backoff.ended(self.age_seconds)
        while self.process is None:
            await asyncio.sleep(self._backoff.next_seconds())
            self._metrics.worker_restarts.inc()
            try:
                await self.start()
            except (WorkerStartError, OSError) as error:
                _log.error("worker_not_started", worker=self.index, reason=str(error))

    async def _watch(self) -> None:
        """Ends a worker that is silent, or at one batch for too long."""
        patience = Patience(self._config)
        while True:
            await asyncio.sleep(self._config.heartbeat_seconds)
            process, now = self.process, time.monotonic()
            if process is not None and (
                cause := patience.overdue(now, process.last_sign_at, self.queue.running)
            ):
                process.kill(*cause)

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=f"worker {self.index}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
