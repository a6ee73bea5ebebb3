"""When what waits for a worker is handed to it: once for all that a turn of the loop brought."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mme.metrics import Metrics
from mme.workers.process import WorkerProcess
from mme.workers.queues import WorkerQueue


class Dispatch:
    """Of one worker's queue to the worker.

    Args:
        queue: in front of it.
        worker: who it is now; None while there is none.
        metrics: told of each batch.
    """

    def __init__(
        self, queue: WorkerQueue, worker: Callable[[], WorkerProcess | None], metrics: Metrics
    ) -> None:
        self._queue, self._worker, self._metrics = queue, worker, metrics
        self._is_due = False  # in this turn of the loop
        self._release: asyncio.TimerHandle | None = None  # of what is held back

    def soon(self) -> None:
        """Hands over, when all that came in this turn of the loop is there."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.now)

    def now(self) -> None:
        """Hands over whatever the worker may have now."""
        self._is_due = False
        worker = self._worker()
        if worker is None:
            return
        now = time.monotonic()
        while batches := self._queue.next_handover(now):
            for batch in batches:
                self._metrics.batch_requests.observe(len(batch.tickets))
            worker.send([batch.message() for batch in batches])
        if (held_until := self._queue.held_until) > now and self._release is None:
            loop = asyncio.get_running_loop()
            self._release = loop.call_later(held_until - now, self._released)

    def _released(self) -> None:
        self._release = None
        self.now()
