"""Second copies of hot models, and moves off a worker that is to end: `copies.py`, carried out.

One copy is made at a time, and one model of a worker moved at a time, so that this never takes the
load turns of what someone waits for. A copy evicts nobody but who has not been asked for lately.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

import structlog

from mme.cache.copies import Add, Copies, Demand
from mme.cache.entry import Entry
from mme.cache.loading import Loading
from mme.cache.residents import Residents
from mme.config import CacheConfig
from mme.domain import ModelKey
from mme.errors import MmeError
from mme.workers.pool import Pool
from mme.workers.slot import Residency

_log = structlog.get_logger()
_PAUSE_SECONDS = 0.25
_COLD_SECONDS = 5.0  # who was not asked for in so long is colder than what has a queue


class Copying:
    """Makes copies, drops them, moves models."""

    def __init__(
        self, config: CacheConfig, *, pool: Pool, residents: Residents, loading: Loading
    ) -> None:
        self._pool = pool
        self._residents = residents
        self._loading = loading
        self._waiting_limit = config.copy_waiting
        self._copies = Copies(config.copy_waiting, config.copy_idle_seconds)
        self._moves: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Watches the queues until cancelled."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            for decision in self._copies.decide(self._demands(), time.monotonic()):
                copies = self._residents.copies(decision.key)
                if not copies:
                    continue
                if isinstance(decision, Add):
                    await self._add(copies[0])
                elif len(copies) > 1:
                    self._residents.retire(copies[-1], "cooled", "fewer copies are enough")

    def begin_move(self, residencies: list[Residency]) -> None:
        """Begins to move these off their worker; returns at once."""
        task = asyncio.create_task(self.move(residencies), name="move models")
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)

    async def close(self) -> None:
        """Gives up moves under way."""
        for task in self._moves:
            task.cancel()
        if self._moves:
            await asyncio.wait(self._moves)

    async def move(self, residencies: list[Residency]) -> None:
        """Moves models off their worker, one after another; returns when all have left it.

        Each is loaded elsewhere first; who can't be is unloaded all the same, and loaded again when
        it is asked for. Requests under way are waited for.
        Cancellation: who has not left stays.
        """
        reason = "its worker is being replaced"
        waiting = deque(residency for residency in residencies if residency.alive)
        while waiting:
            residency = waiting.popleft()
            entry = self._residents.find(residency.model)
            if entry is None:
                if residency.alive:  # loaded a moment ago, or on its way out
                    waiting.append(residency)
                    await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if self._residents.copies(entry.key) == (entry,):
                await self._copy(entry, reason)
            await self._residents.unload((entry,), "moved", reason)

    def _demands(self) -> list[Demand]:
        crowded = map(self._residents.find, self._pool.crowds(self._waiting_limit))
        keys = {entry.key for entry in crowded if entry is not None}
        demands = map(self._demand, keys.union(self._copies.keys()))
        return [demand for demand in demands if demand is not None]

    def _demand(self, key: ModelKey) -> Demand | None:
        copies = self._residents.copies(key)
        if not copies:
            return None
        slots = [copy.slot for copy in copies]
        waiting = [copy.slot.queue.unanswered(copy.copy_id) for copy in copies]
        others = [peer for peer in self._pool.peers(slots[0]) if peer not in slots]
        return Demand(
            key=key,
            copies=len(copies),
            waiting=max(waiting),
            answered=sum(copy.hits for copy in copies) - sum(waiting),
            backlog=max(slot.queue.backlog for slot in slots),
            idlest_backlog=min((peer.queue.backlog for peer in others), default=None),
        )

    async def _add(self, entry: Entry) -> None:
        if self._has_room(entry):
            await self._copy(entry, "its queue is long")

    async def _copy(self, entry: Entry, reason: str) -> None:
        try:
            await self._loading.copy(entry, reason)
        except MmeError as error:
            _log.warning("model_not_copied", model=entry.key, reason=str(error))

    def _has_room(self, entry: Entry) -> bool:
        """Whether a copy fits beside all that is warm."""
        ledger, cold_before = self._residents.ledger, time.monotonic() - _COLD_SECONDS
        missing_bytes = self._loading.placing.wanted_bytes(entry) - (
            ledger.budget_bytes - ledger.charged_bytes
        )
        for copy_id in ledger.order() if missing_bytes > 0 and self._residents.may_evict else ():
            victim = self._residents.find(copy_id)
            if victim is None or victim.used_at > cold_before:
                break
            missing_bytes -= ledger.bytes_of(copy_id)
            if missing_bytes <= 0:
                break
        return missing_bytes <= 0
