"""Who is in memory: the ledger's decisions, carried out in the pool.

Versions of one model may be resident together while the old one is still leased; `current` is the
one that answers. Of that one there may be several copies, each in a worker of its own, with an id
and a charge of its own; of a pinned model the first is pinned, the others are spare. Everything
between a decision and its bookkeeping happens in one step of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from functools import partial

from mme.cache.entry import Entry
from mme.cache.kept import KEPT_BYTES, Kept
from mme.cache.ledger import Admit, Evict, Ledger, Refusal, Refuse
from mme.cache.records import Records
from mme.cache.refusing import refused
from mme.domain import ModelKey
from mme.metrics import Metrics
from mme.usage.accounts import Accounts
from mme.workers.pool import LoadedModel, Pool
from mme.workers.slot import Residency


class Residents:
    """Models in memory and their bytes."""

    def __init__(
        self,
        ledger: Ledger[str],
        *,
        may_evict: bool = True,
        pool: Pool,
        records: Records,
        metrics: Metrics,
    ) -> None:
        self.ledger = ledger
        self.accounts = Accounts()
        self.kept = Kept()
        self.may_evict = may_evict
        self._pins: set[ModelKey] = set()
        self._pool = pool
        self._records = records
        self._metrics, self._evicted = metrics, metrics.evictions.labels("evicted")
        self._entries: dict[str, Entry] = {}  # by copy: all that the ledger calls resident
        self._current: dict[ModelKey, tuple[Entry, ...]] = {}  # copies of one version, never none
        self.ahead: set[ModelKey] = set()  # loaded before anyone asks, so nobody goes for them
        self._room_turn = asyncio.Lock()
        self._room = asyncio.Event()  # something was freed or let go
        self._unloads: set[asyncio.Task[None]] = set()
        for state in ("budget", "reserved", "resident", "leaving"):
            held = partial(getattr, ledger, f"{state}_bytes")
            metrics.memory_bytes.labels(state).set_function(held)
        metrics.loaded_model_count.set_function(lambda: ledger.resident_count)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def find(self, copy_id: str) -> Entry | None:
        """The model in memory under this id."""
        return self._entries.get(copy_id)

    def current(self, key: ModelKey) -> Entry | None:
        """The version of `key` that answers, if it is in memory: the copy to ask next."""
        copies = self._current.get(key)
        if copies is None:
            return None
        return copies[0] if len(copies) == 1 else min(copies, key=Entry.backlog)

    def copies(self, key: ModelKey) -> tuple[Entry, ...]:
        """All copies of the version of `key` that answers."""
        return self._current.get(key, ())

    @property
    def is_waited_for(self) -> bool:
        """Whether a load waits for room."""
        return self._room_turn.locked()

    async def reserve(self, copy_id: str, key: ModelKey, size_bytes: int) -> None:
        """Reserves memory for a load, evicting and waiting as needed; first come, first served.

        Raises:
            MemoryRefused: larger than the whole budget; or all there is is pinned, or may not be
                evicted for it.
        Cancellation: nothing is reserved; evictions begun go on.
        """
        async with self._room_turn:
            while True:
                self._room.clear()
                match self._reserve(copy_id, key, size_bytes):
                    case Admit():
                        return
                    case Refuse(why) if why is not Refusal.IN_USE or self._all_pinned():
                        raise refused(self.ledger, size_bytes, why)
                    case Refuse() | Evict():
                        await self._room.wait()

    async def settle(self, copy_id: str, key: ModelKey, measured_bytes: int) -> bool:
        """Turns a reservation into what was measured, evicting if it is more.

        False where that can't be done without waiting for leases or other loads: two loads that
        both want more must not wait for each other, so the caller gives up its own and starts over
        with the size now known.
        """
        while True:
            self._room.clear()
            match self._reserve(copy_id, key, measured_bytes):
                case Admit():
                    return True
                case Refuse():
                    return False
                case Evict():
                    await self._room.wait()

    def release(self, copy_id: str) -> None:
        """Gives a reservation back."""
        self.ledger.release(copy_id)
        self._room.set()

    def abandon(self, loaded: LoadedModel) -> asyncio.Task[None]:
        """Gives up what is reserved and loaded: unloads it, then releases, whoever waits for it."""
        return self._own(self._finish_abandon(loaded))

    def admit(self, entry: Entry, reason: str = "asked for", *, is_load: bool = True) -> None:
        """A reserved, loaded model answers for its key; copies of another version retire."""
        loaded = entry.loaded
        self.ledger.commit(entry.copy_id, loaded.load_seconds)
        seconds = loaded.load_seconds if is_load else 0.0
        account = self.accounts.enter(entry.key, loaded.resident_bytes, seconds)
        loaded.residency.account = account
        self._entries[entry.copy_id] = entry
        self.kept.drop(entry.key)
        former = self.copies(entry.key)
        peers = tuple(copy for copy in former if copy.version == entry.version)
        self._set_current(entry.key, (*peers, entry))
        self._records.add("loaded", entry.key, entry.loaded.resident_bytes, reason)
        for copy in former:
            if copy not in peers:
                self.retire(copy, "superseded", "a new version took its place")

    def hold(self, entry: Entry) -> None:
        """One more lease: used now, and not to be evicted."""
        self.ledger.hold(entry.copy_id)
        self.ledger.touch(entry.copy_id)

    def unhold(self, entry: Entry) -> None:
        """One lease less."""
        self.ledger.unhold(entry.copy_id)
        if entry.retired:
            self._leave_retired(entry)
        self._room.set()

    def pin(self, key: ModelKey) -> None:
        """From now on `key`, in whatever version, is not evicted once it is in memory."""
        self._pins.add(key)
        for entry in self.copies(key)[:1]:
            self._pin(entry)

    def unpin(self, key: ModelKey) -> None:
        """`key` may be evicted again."""
        self._pins.discard(key)
        for entry in self.copies(key):
            self._unpin(entry)

    async def unload(self, entries: tuple[Entry, ...], kind: str, reason: str) -> None:
        """Takes `entries` out of memory; returns when their memory is back with the system.

        Cancellation: they leave all the same.
        """
        for entry in entries:
            self.retire(entry, kind, reason)
        for entry in entries:
            await entry.wait_until_gone()

    def retire(self, entry: Entry, kind: str, reason: str) -> None:
        """Stops `entry` from answering; it leaves memory when its last lease ends."""
        if entry.retired:
            return
        self._drop_current(entry)
        self._records.add(kind, entry.key, entry.loaded.resident_bytes, reason)
        self._metrics.evictions.labels(kind).inc()
        self._unpin(entry)
        self._leave_retired(entry)

    def part_with(self, victims: tuple[str, ...], for_whom: ModelKey | None) -> list[Entry]:
        """Evicted, `victims` answer no more; the caller takes them out of memory.

        Args:
            victims: who leaves, by the ledger's decision.
            for_whom: the model that needs the room; None: it is the machine that does.
        """
        entries = [self._entries.pop(copy_id) for copy_id in victims]
        for entry in entries:
            if not entry.retired:
                size, why = entry.loaded.resident_bytes, self.ledger.why_evicted(entry.copy_id)
                self._records.add("evicted", entry.key, size, why, for_whom=for_whom)
                self._evicted.inc()
                self._drop_current(entry)
                if entry.loaded.residency.leaves_at_once and not self.copies(entry.key):
                    self.kept.put(entry, KEPT_BYTES * self._pool.ready_count)
        return entries

    def unload_soon(self, entries: list[Entry]) -> None:
        """Takes those who left out of memory; nobody waits for it."""
        if entries:
            self._own(self._finish_unload(entries))

    def gone(self, entry: Entry) -> None:
        """The memory of one who left is back."""
        loaded = entry.loaded
        self.accounts.leave(loaded.residency.account, loaded.resident_bytes)
        entry.went()

    def lose(self, residencies: list[Residency], cause: str) -> None:
        """A worker ended and took these with it."""
        for residency in residencies:
            self.ledger.lose(residency.model)
            entry = self._entries.pop(residency.model, None)
            if entry is not None:
                if not entry.retired:
                    self._records.add("lost", entry.key, entry.loaded.resident_bytes, cause)
                    self._metrics.evictions.labels("lost").inc()
                self._drop_current(entry)
                self._unpin(entry)
                self.gone(entry)
        self._room.set()

    def set_budget(self, budget_bytes: int) -> None:
        """Sets the budget and evicts what is over it."""
        if budget_bytes != self.ledger.budget_bytes:
            grown = budget_bytes > self.ledger.budget_bytes
            self.unload_soon(self.part_with(self.ledger.shrink(budget_bytes), None))
            if grown:
                self._room.set()

    async def close(self) -> None:
        """Waits for unloads under way."""
        if self._unloads:
            await asyncio.wait(self._unloads)

    def _reserve(self, copy_id: str, key: ModelKey, size_bytes: int) -> Admit | Evict[str] | Refuse:
        may_evict = self.may_evict and key not in self.ahead
        decision = self.ledger.reserve(copy_id, size_bytes, may_evict=may_evict)
        if isinstance(decision, Evict):
            self.unload_soon(self.part_with(decision.victims, key))
        return decision

    def _all_pinned(self) -> bool:
        """Whether waiting is in vain: nothing is loading or leaving, and all else is pinned."""
        ledger = self.ledger
        idle = not ledger.reserved_bytes and not ledger.leaving_bytes
        return idle and all(entry.pinned for entry in self._entries.values())

    def _pin(self, entry: Entry) -> None:
        if not entry.pinned:
            entry.pinned = True
            self.ledger.hold(entry.copy_id)

    def _unpin(self, entry: Entry) -> None:
        if entry.pinned:
            entry.pinned = False
            self.ledger.unhold(entry.copy_id)
            self._room.set()

    def _leave_retired(self, entry: Entry) -> None:
        if self._entries.get(entry.copy_id) is entry and self.ledger.leave(entry.copy_id):
            del self._entries[entry.copy_id]
            self.unload_soon([entry])

    def _drop_current(self, entry: Entry) -> None:
        entry.retired = True
        left = tuple(copy for copy in self.copies(entry.key) if copy is not entry)
        self._set_current(entry.key, left)

    def _set_current(self, key: ModelKey, copies: tuple[Entry, ...]) -> None:
        if not copies:
            self._current.pop(key, None)
            return
        self._current[key] = copies
        if key in self._pins:
            self._pin(copies[0])

    def _own(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="unload")
        self._unloads.add(task)
        task.add_done_callback(self._unloads.discard)
        return task

    async def _finish_abandon(self, loaded: LoadedModel) -> None:
        await self._pool.unload([loaded.residency])
        self.release(loaded.residency.model)

    async def _finish_unload(self, entries: list[Entry]) -> None:
        await self._pool.unload([entry.loaded.residency for entry in entries])
        for entry in entries:
            self.ledger.left(entry.copy_id)
            self.gone(entry)
        self._room.set()
