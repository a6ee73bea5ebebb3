"""Replaces a worker that keeps too much memory or descriptors, and loses no request at it.

Too much is what models that left have lost there, or what it has come to hold beyond what its
models are charged, whoever of them took it. A worker younger than `recycle_seconds` is let be: what
it lost, and what it holds by then, may be what its models need again and again; so only what comes
on top of that counts. Whose descriptors are used up can load nothing, and is replaced at any age.

Order: a fresh worker is ready; the old one takes no more loads; those that were on their way have
ended; `on_recycle` is told which models are to move; the last of them has left; the old worker is
ended. Whoever moves them loads a second copy and unloads the first when its leases end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from weakref import WeakKeyDictionary

import structlog

from mme.config import WorkerConfig
from mme.workers.group import Group
from mme.workers.process import WorkerProcess, WorkerStartError
from mme.workers.slot import Residency, Slot

_log = structlog.get_logger()
_AGAIN_SECONDS = 30.0  # at least, until a successor that could not start is tried again
_MUCH_RATIO = 0.25  # of what a worker's models take


class Recycler:
    """Looks at all workers at each heartbeat, and the replacements under way.

    Args:
        config: how much may be kept, and how soon a worker may be replaced.
        on_recycle: told which models have to leave their worker; None: nobody would move them, so
            that no worker is replaced.
        groups: all workers there are.
        regroup: called when slots have come or gone.
    """

    def __init__(
        self,
        config: WorkerConfig,
        on_recycle: Callable[[list[Residency]], None] | None,
        groups: Callable[[], Collection[Group]],
        regroup: Callable[[], None],
    ) -> None:
        self._config = config
        self._on_recycle = on_recycle
        self._groups, self._regroup = groups, regroup
        self._usual_bytes: WeakKeyDictionary[WorkerProcess, int] = WeakKeyDictionary()
        self._watch: asyncio.Task[None] | None = None
        self._tasks: dict[Slot, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Begins to look."""
        if self._on_recycle is not None:
            self._watch = asyncio.create_task(self._look(self._on_recycle), name="recycle workers")

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = [*self._tasks.values(), *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _look(self, on_recycle: Callable[[list[Residency]], None]) -> None:
        while True:
            await asyncio.sleep(self._config.heartbeat_seconds)
            for group in self._groups():
                for slot in group.slots:
                    process = slot.process
                    if process is not None and self._keeps_too_much(slot, process):
                        self._begin(slot, group, process, on_recycle)

    def _keeps_too_much(self, slot: Slot, process: WorkerProcess) -> bool:
        if slot.is_closed or slot in self._tasks:
            return False
        if process.is_short:
            return True
        if slot.age_seconds < self._config.recycle_seconds:
            return False
        resident_bytes = slot.residencies.resident_bytes
        limit_bytes = max(self._config.recycle_bytes, int(_MUCH_RATIO * resident_bytes))
        return max(process.lost_bytes, self._grown_bytes(process)) > limit_bytes

    def _grown_bytes(self, process: WorkerProcess) -> int:
        usual_bytes = self._usual_bytes.setdefault(process, process.excess_bytes)
        return process.excess_bytes - usual_bytes

    def _begin(
        self,
        slot: Slot,
        group: Group,
        process: WorkerProcess,
        on_recycle: Callable[[list[Residency]], None],
    ) -> None:
        kept = {
            "lost_bytes": process.lost_bytes,
            "grown_bytes": self._grown_bytes(process),
            "descriptors_used_up": process.is_short,
        }
        task = asyncio.create_task(
            self._replace(slot, group, kept, on_recycle), name=f"recycle worker {slot.index}"
        )
        self._tasks[slot] = task
        task.add_done_callback(lambda _done: self._tasks.pop(slot))

    async def _replace(
        self,
        slot: Slot,
        group: Group,
        kept: dict[str, int],
        on_recycle: Callable[[list[Residency]], None],
    ) -> None:
        group.loading += 1  # or it could be taken for idle, and ended
        try:
            fresh = await group.add()
        except (WorkerStartError, OSError) as error:
            _log.error("worker_not_recycled", worker=slot.index, reason=str(error))
            fresh = None
        finally:
            group.loading -= 1
        if fresh is None:
            await asyncio.sleep(max(self._config.recycle_seconds, _AGAIN_SECONDS))
            return
        self._regroup()
        await slot.retire()
        _log.info(
            "worker_leaving", worker=slot.index, successor=fresh.index, **kept,
            models=len(slot.residencies),
        )  # fmt: skip
        if slot.residencies:
            on_recycle(list(slot.residencies))
            await slot.residencies.empty.wait()
        await slot.close("it was replaced to get back what it kept")
        group.slots.remove(slot)
        self._regroup()
        _log.info("worker_recycled", worker=slot.index, successor=fresh.index)
