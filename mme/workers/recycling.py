"""Replaces a worker whose heap will not shrink, and loses no request at it.

Order: a fresh worker is ready; the old one takes no more loads; those that were on their way have
ended; `on_recycle` is told which models are to move; the last of them has left; the old worker is
ended. Whoever moves them loads a second copy and unloads the first when its leases end. A worker
younger than `recycle_seconds` is let be: what it lost may be what its models need again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from mme.config import WorkerConfig
from mme.workers.group import Group
from mme.workers.process import WorkerStartError
from mme.workers.slot import Residency, Slot

_log = structlog.get_logger()
_LOST_RATIO = 0.25  # of what a worker's models take


class Recycler:
    """The replacements under way.

    Args:
        config: how much may be lost, and how soon a worker may be replaced.
        on_recycle: told which models have to leave their worker; None: nobody would move them, so
            that no worker is replaced.
        regroup: called when slots have come or gone.
    """

    def __init__(
        self,
        config: WorkerConfig,
        on_recycle: Callable[[list[Residency]], None] | None,
        regroup: Callable[[], None],
    ) -> None:
        self._config = config
        self._on_recycle = on_recycle
        self._regroup = regroup
        self._tasks: dict[Slot, asyncio.Task[None]] = {}

    def consider(self, slot: Slot, group: Group) -> None:
        """Replaces `slot` if it has lost too much; returns at once."""
        resident_bytes = slot.residencies.resident_bytes
        limit_bytes = max(self._config.recycle_bytes, int(_LOST_RATIO * resident_bytes))
        if (
            self._on_recycle is None
            or slot in self._tasks
            or slot.is_closed
            or _lost_bytes(slot) <= limit_bytes
            or slot.age_seconds < self._config.recycle_seconds
        ):
            return
        task = asyncio.create_task(
            self._replace(slot, group, self._on_recycle), name=f"recycle worker {slot.index}"
        )
        self._tasks[slot] = task
        task.add_done_callback(lambda _done: self._tasks.pop(slot))

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _replace(
        self, slot: Slot, group: Group, on_recycle: Callable[[list[Residency]], None]
    ) -> None:
        lost_bytes = _lost_bytes(slot)
        group.loading += 1  # or it could be taken for idle, and ended
        try:
            fresh = await group.add()
        except (WorkerStartError, OSError) as error:
            _log.error("worker_not_recycled", worker=slot.index, reason=str(error))
            return
        finally:
            group.loading -= 1
        self._regroup()
        await slot.retire()
        _log.info(
            "worker_leaving", worker=slot.index, successor=fresh.index, lost_bytes=lost_bytes,
            models=len(slot.residencies),
        )  # fmt: skip
        if slot.residencies:
            on_recycle(list(slot.residencies))
            await slot.residencies.empty.wait()
        await slot.close("it was replaced to get its memory back")
        group.slots.remove(slot)
        self._regroup()
        _log.info("worker_recycled", worker=slot.index, successor=fresh.index)


def _lost_bytes(slot: Slot) -> int:
    return slot.process.lost_bytes if slot.process is not None else 0
