"""One place in the pool: a worker process, its queues, its models; and its successor when it ends.

States: starting -> ready -> (ended -> waiting out the back-off -> starting) ... -> closed. What a
dead worker had is settled in one step, `_ended`: queues, residencies, then `on_lost`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path

import structlog

from mme.config import WorkerConfig
from mme.errors import WorkerLost
from mme.metrics import Metrics
from mme.workers.backoff import Backoff
from mme.workers.charging import charge
from mme.workers.environments import Environment
from mme.workers.patience import overdue
from mme.workers.preload import Preload
from mme.workers.process import WorkerProcess, WorkerStartError
from mme.workers.protocol import CallFailed, Loaded, Predict, Predicted
from mme.workers.queues import WorkerQueue
from mme.workers.residency import LoadRequest, Residency
from mme.workers.slot_state import describe
from mme.workers.spec import WorkerSpec

__all__ = ["Residency", "Slot"]

_log = structlog.get_logger()


class Slot:
    """One worker of the pool, whatever process stands for it now."""

    def __init__(  # noqa: PLR0913 - its pool is its only builder
        self,
        index: int,
        config: WorkerConfig,
        *,
        weights: Mapping[str, float],
        threads: int,
        environment: Environment | None,
        metrics: Metrics,
        on_ready: Callable[[], None],
        in_use: Callable[[], Collection[str]],
        on_lost: Callable[[list[Residency], list[Residency], str], None],
    ) -> None:
        self.index = index
        self.queue = WorkerQueue(config.batch_requests, config.batch_bytes, weights)
        self.assigned_bytes = self.resident_bytes = 0  # of loads on their way; of the models here
        self._preload = Preload(WorkerSpec.of(config, threads, environment), in_use)
        self._environment, self._config, self._metrics = environment, config, metrics
        self._on_ready, self._on_lost = on_ready, on_lost
        self._process: WorkerProcess | None = None
        self._residencies: dict[str, Residency] = {}
        self._load_turn = asyncio.Lock()
        self._is_to_dispatch = False  # in this turn of the loop
        self._loading: tuple[str, float] | None = None  # what, for people; since when
        self._started_at, self._backoff = 0.0, Backoff()
        self._tasks: set[asyncio.Task[None]] = set()
        # Its worker's end is no accident any more; it takes no loads, and has no successor here.
        self.is_closed = self.is_leaving = False
        self.empty = asyncio.Event()  # has no model any more

    @property
    def resident_count(self) -> int:
        """Models here."""
        return len(self._residencies)

    @property
    def residencies(self) -> list[Residency]:
        """The models here."""
        return list(self._residencies.values())

    @property
    def is_ready(self) -> bool:
        """Whether a process stands here that serves."""
        return self._process is not None

    @property
    def lost_bytes(self) -> int:
        """What its process did not give back with the last unload."""
        return self._process.lost_bytes if self._process else 0

    @property
    def hot(self) -> dict[str, int]:
        """As its process."""
        return self._process.hot if self._process else {}

    @property
    def age_seconds(self) -> float:
        """Since its process was ready."""
        return time.monotonic() - self._started_at

    @property
    def loading_seconds(self) -> float:
        """For how long it has been at one load."""
        return time.monotonic() - self._loading[1] if self._loading else 0.0

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
        self._process = process
        self._preload.succeeded()
        self._started_at = time.monotonic()
        self._metrics.workers_ready.inc()
        self._on_ready()
        if not self._tasks:
            self._own(self._watch())
        self.dispatch_soon()

    async def retire(self) -> None:
        """Takes no more loads; returns when the one under way has ended."""
        self.is_leaving = True
        async with self._load_turn:
            pass

    async def close(self, reason: str = "the server is shutting down") -> None:
        """Ends the process and waits until it is reaped."""
        self.is_closed = True
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._process is not None:
            await self._process.end(reason)

    async def load(self, wanted: LoadRequest) -> tuple[Residency, Loaded] | CallFailed:
        """Loads a model here, one at a time; see Pool.load.

        Cancellation: once handed over, the worker is ended: its loading thread can't be stopped.
        """
        process = self._serving()
        try:
            directory = await process.lend(wanted)  # while others load
            async with self._load_turn:
                return await self._load(process, wanted, directory)
        finally:
            if wanted.model not in self._residencies:
                process.take_back([wanted.model])

    async def _load(
        self, process: WorkerProcess, wanted: LoadRequest, directory: str
    ) -> tuple[Residency, Loaded] | CallFailed:
        if self.is_leaving:  # since it was chosen
            raise WorkerLost("The worker is being replaced.", started=False)
        self._loading = wanted.name, time.monotonic()
        try:
            answer = await process.load(wanted, directory)
        except asyncio.CancelledError:
            process.kill(f"loading {wanted.name} was given up")
            raise
        finally:
            self._loading = None
        if isinstance(answer, CallFailed):
            return answer
        residency = self._residencies[wanted.model] = Residency(
            self, wanted.model, wanted.name, wanted.tenant, answer.resident_bytes, answer.framework
        )
        self.empty.clear()
        self.resident_bytes += answer.resident_bytes
        return residency, answer

    async def compile(self, model: str, room_bytes: int) -> Loaded | CallFailed:
        """Compiles a model here, in turn with loads. Cancellation: as `load`."""
        async with self._load_turn:
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
        if not here or (process := self._process) is None:
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

    def dispatch_soon(self) -> None:
        """Hands over whatever the worker may have, once for all asked in this turn of the loop."""
        if not self._is_to_dispatch:
            self._is_to_dispatch = True
            asyncio.get_running_loop().call_soon(self.dispatch)

    def dispatch(self) -> None:
        """Hands over whatever the worker may have now."""
        self._is_to_dispatch = False
        if self._process is None:
            return
        while (batch := self.queue.next_batch(time.monotonic())) is not None:
            self._metrics.batch_requests.observe(len(batch.tickets))
            self._process.send(
                Predict(batch.number, batch.model, [ticket.ask for ticket in batch.tickets])
            )

    def lent_of(self, artifact: Path) -> list[Path]:
        """As its process."""
        return self._process.lent_of(artifact) if self._process else []

    def describe(self) -> dict[str, object]:
        """This worker's state, for `/state`."""
        loading = self._loading[0] if self._loading else None
        return describe(self, self._process, self._environment, loading, self._backoff.count)

    def _serving(self) -> WorkerProcess:
        if self._process is None:
            raise WorkerLost("The worker has ended.", started=False)
        return self._process

    def _forget(self, residency: Residency) -> None:
        residency.alive = False
        del self._residencies[residency.model]
        self.queue.forget(residency.model)
        self.resident_bytes -= residency.resident_bytes
        if not self._residencies:
            self.empty.set()

    def _predicted(self, message: Predicted) -> None:
        now = time.monotonic()
        batch = self.queue.finish(message.batch, now, message.seconds)
        if batch is None or len(batch.tickets) != len(message.results):
            self._serving().kill("it answered what was not asked")
            return
        self.dispatch()
        charge(self._residencies, batch, message.seconds)
        self._metrics.predict_seconds.observe(message.seconds)
        batch.settle(message.results, message.seconds)

    def _ended(self, process: WorkerProcess, cause: str) -> None:
        if process is not self._process:
            return  # it never became this slot's worker: `start` raises
        self._process = None
        self._metrics.workers_ready.dec()
        charge(self._residencies, self.queue.running)
        started, waiting = self.queue.abandon()
        for tickets, begun in ((started, True), (waiting, False)):
            for ticket in tickets:
                ticket.fail(WorkerLost(f"The worker ended: {cause}.", started=begun))
        lost = self.residencies
        self._preload.lost(lost)
        for residency in lost:
            self._forget(residency)
        running = started[0].model if started else None
        self._on_lost(lost, [residency for residency in lost if residency.model == running], cause)
        if not self.is_closed:
            _log.error(
                "worker_ended", worker=self.index, pid=process.pid, cause=cause, models=len(lost)
            )
            if not self.is_leaving:
                self._own(self._replace())

    async def _replace(self) -> None:
        self._backoff.ended(self.age_seconds)
        while self._process is None:
            await asyncio.sleep(self._backoff.next_seconds())
            self._metrics.worker_restarts.inc()
            try:
                await self.start()
            except (WorkerStartError, OSError) as error:
                _log.error("worker_not_started", worker=self.index, reason=str(error))

    async def _watch(self) -> None:
        """Ends a worker that is silent, or at one batch for too long."""
        while True:
            await asyncio.sleep(self._config.heartbeat_seconds)
            process, now = self._process, time.monotonic()
            if process is not None and (
                reason := overdue(self._config, now, process.last_sign_at, self.queue.running)
            ):
                process.kill(reason)

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=f"worker {self.index}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
