"""The workers of one environment: which of them takes the next model.

Decision: the emptiest, so that they share what is asked for; but a worker that has been at one load
for long, its first of a framework perhaps, takes no more while another could: all would wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from mme.workers.process import WorkerStartError
from mme.workers.slot import Slot

_LONG_SECONDS = 0.5  # for a load


class Group:
    """Slots that are alike.

    Args:
        count: how many.
        build_slot: makes one of this group.
    """

    def __init__(self, count: int, build_slot: Callable[[Group], Slot]) -> None:
        self._build_slot = build_slot
        self._ready = asyncio.Event()
        self.slots = [build_slot(self) for _ in range(count)]
        self.loading = 0  # loads on their way here
        self._used_at = time.monotonic()

    async def start(self) -> None:
        """Starts all workers at once.

        Raises:
            WorkerStartError: one could not start; all others are ended then.
        Cancellation: all are ended.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self.slots:
                    group.create_task(slot.start())
        except BaseExceptionGroup as errors:
            await self.close()
            raise next(
                (error for error in errors.exceptions if isinstance(error, WorkerStartError)),
                errors,
            ) from None
        except asyncio.CancelledError:
            await self.close()
            raise

    async def add(self) -> Slot:
        """Starts one more worker.

        Raises:
            WorkerStartError: it could not start; it is gone then.
        Cancellation: it is ended.
        """
        slot = self._build_slot(self)
        try:
            await slot.start()
        except BaseException:
            await slot.close()
            raise
        self.slots.append(slot)
        return slot

    async def close(self) -> None:
        """Ends all workers and waits until they are reaped; what waits gets WorkerLost."""
        async with asyncio.TaskGroup() as group:
            for slot in self.slots:
                group.create_task(slot.close())

    async def choose(self, avoid: Collection[Slot] = ()) -> Slot:
        """The ready worker with the fewest bytes, none of `avoid`; waits while none is ready."""
        while not (able := [slot for slot in self.takers() if slot not in avoid]):
            self._ready.clear()
            await self._ready.wait()
        return min(able, key=_rank)

    def takers(self) -> list[Slot]:
        """The workers that models may be loaded into now."""
        return [slot for slot in self.slots if slot.process is not None and not slot.is_leaving]

    def idle_seconds(self) -> float:
        """For how long it has had no model and no load; asked for regularly."""
        now = time.monotonic()
        if self.loading or any(slot.residencies for slot in self.slots):
            self._used_at = now
        return now - self._used_at

    def wake(self) -> None:
        """One of them has become ready."""
        self._ready.set()

    def frameworks(self) -> set[str]:
        """Those of the models that are here now."""
        return {residency.framework for slot in self.slots for residency in slot.residencies}


def _rank(slot: Slot) -> tuple[bool, int, int]:
    is_late = slot.loading_seconds > _LONG_SECONDS
    return is_late, slot.residencies.resident_bytes + slot.assigned_bytes, slot.index
