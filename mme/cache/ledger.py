"""The bytes of models in memory: who holds how many, in which state, and who must go.

Pure: no clock, no I/O. Rules, kept by every method:

    reserved + resident + leaving <= budget   (one that shrinks below admits nothing until then)

    reserved  promised to a load that has not finished; becomes resident, or is released
    resident  charged what was measured in the worker; evictable while nobody leases or pins it
    leaving   out of the cache, still charged until its worker confirms that the memory is back

Who goes first is for `policy.py` to say, of those that nobody leases or pins.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from mme.cache.policy import LeastRecentlyUsed, Policy

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Admit:
    """The bytes are reserved."""


@dataclass(frozen=True, slots=True)
class Evict(Generic[Key]):
    """Not yet: these are leaving now, beside those that already were; ask when one has left."""

    victims: tuple[Key, ...]


class Refusal(Enum):
    """Why room can't be made."""

    TOO_LARGE = "larger than the whole budget"
    IN_USE = "everything else is in use or being loaded"
    FULL = "there is no room, and nothing may be evicted for it"


@dataclass(frozen=True, slots=True)
class Refuse:
    """No eviction would make room now."""

    why: Refusal


class Ledger(Generic[Key]):
    """Bytes against a budget. Not thread-safe: one event loop owns it.

    Args:
        budget_bytes: what all may take together.
        policy: says who goes first, and is this ledger's own; the least recently used if None.
    """

    def __init__(self, budget_bytes: int, policy: Policy[Key] | None = None) -> None:
        self.budget_bytes = budget_bytes
        self.reserved_bytes = 0
        self.resident_bytes = 0
        self.leaving_bytes = 0
        self._held_bytes = 0  # resident and leased or pinned: not evictable
        self._policy: Policy[Key] = LeastRecentlyUsed() if policy is None else policy
        self._reserved: dict[Key, int] = {}
        self._resident: dict[Key, int] = {}
        self._leaving: dict[Key, int] = {}
        self._reasons: dict[Key, str] = {}  # why those evicted and still leaving were chosen
        self._holds: dict[Key, int] = {}  # leases and pins, also of keys still reserved

    @property
    def charged_bytes(self) -> int:
        """All that counts against the budget."""
        return self.reserved_bytes + self.resident_bytes + self.leaving_bytes

    @property
    def resident_count(self) -> int:
        """How many models are resident."""
        return len(self._resident)

    def is_resident(self, key: Key) -> bool:
        """Whether `key` is resident. Does not touch its recency."""
        return key in self._resident

    def bytes_of(self, key: Key) -> int:
        """What `key` is charged, whatever its state; 0 if unknown. No use of it."""
        if key in self._resident:
            return self._resident[key]
        return self._reserved.get(key) or self._leaving.get(key, 0)

    def reserve(
        self, key: Key, size_bytes: int, *, may_evict: bool = True
    ) -> Admit | Evict[Key] | Refuse:
        """Asks for room for a load, or for a larger or smaller reservation of one.

        An Evict has already moved its victims to leaving: the caller unloads them and calls `left`
        for each. Without `may_evict` only what leaves of itself makes room.
        """
        if size_bytes > self.budget_bytes:
            return Refuse(Refusal.TOO_LARGE)
        if key in self._leaving:
            return Evict(())  # its former self must have left first
        grown = size_bytes - self._reserved.get(key, 0)
        if grown <= 0 or self.charged_bytes + grown <= self.budget_bytes:
            self._reserved[key] = size_bytes
            self.reserved_bytes += grown
            return Admit()
        staying = (
            self.reserved_bytes + self.resident_bytes + grown
        )  # what remains once all leaving have left
        if not may_evict:
            return Evict(()) if staying <= self.budget_bytes else Refuse(Refusal.FULL)
        if staying - self._evictable_bytes() > self.budget_bytes:
            return Refuse(Refusal.IN_USE)
        return Evict(self._evict(staying - self.budget_bytes))

    def displace(
        self, size_bytes: int, *, may_evict: bool, spare_free: bool
    ) -> tuple[Key, ...] | None:
        """Who must go so that so much can come at once, leaving already; None: nobody can for it.

        Args:
            size_bytes: what is to come.
            may_evict: whether anyone may go.
            spare_free: what is free is not for it: who goes has to make all the room.
        """
        free_bytes = self.budget_bytes - self.charged_bytes
        wanted_bytes = size_bytes - (min(free_bytes, 0) if spare_free else free_bytes)
        if wanted_bytes <= 0:
            return ()
        if not may_evict or wanted_bytes > self._evictable_bytes():
            return None
        return self._evict(wanted_bytes)

    def take_over(self, key: Key, size_bytes: int, victims: Iterable[Key]) -> None:
        """`key` is reserved what `displace` made room for: who left drops it as `key` comes."""
        for victim in victims:
            self.left(victim)
        self._reserved[key] = size_bytes
        self.reserved_bytes += size_bytes

    def commit(self, key: Key, cost_seconds: float = 0.0) -> None:
        """A reserved load has finished: resident at its reserved size, used now.

        Args:
            key: what was loaded.
            cost_seconds: what loading it again would take.
        """
        size = self._reserved.pop(key)
        self.reserved_bytes -= size
        self._resident[key] = size
        self.resident_bytes += size
        self._policy.admitted(key, size, cost_seconds)
        if key in self._holds:
            self._start_holding(key)

    def resize(self, key: Key, size_bytes: int) -> bool:
        """Charges a resident key more or less. False: it is none, or there is no room for it."""
        if key not in self._resident:
            return False
        grown = size_bytes - self._resident[key]
        if grown > 0 and self.charged_bytes + grown > self.budget_bytes:
            return False
        self._resident[key] = size_bytes
        self.resident_bytes += grown
        if key in self._holds:
            self._held_bytes += grown
        return True

    def release(self, key: Key) -> None:
        """A reserved load was given up; its bytes are free. Unknown keys are ignored."""
        self.reserved_bytes -= self._reserved.pop(key, 0)

    def touch(self, key: Key) -> None:
        """`key` was used now. Raises KeyError if not resident."""
        self._resident[key]  # raises
        self._policy.used(key)

    def hold(self, key: Key) -> None:
        """One more lease or pin: not evictable until `unhold`. For reserved or resident keys."""
        holds = self._holds.get(key, 0)
        self._holds[key] = holds + 1
        if not holds and key in self._resident:
            self._start_holding(key)

    def unhold(self, key: Key) -> None:
        """One lease or pin less. Raises KeyError if there is none."""
        holds = self._holds[key] - 1
        if holds:
            self._holds[key] = holds
            return
        del self._holds[key]
        if key in self._resident:
            self._held_bytes -= self._resident[key]
            self._policy.freed(key)

    def is_held(self, key: Key) -> bool:
        """Whether anyone leases or pins `key`."""
        return key in self._holds

    def leave(self, key: Key) -> bool:
        """Moves a resident key to leaving. False if it is held or not resident."""
        if key in self._holds or key not in self._resident:
            return False
        self._policy.removed(key)
        self._start_leaving(key)
        return True

    def left(self, key: Key) -> None:
        """The worker has confirmed that the bytes are back. Unknown keys are ignored."""
        self.leaving_bytes -= self._leaving.pop(key, 0)
        self._reasons.pop(key, None)

    def lose(self, key: Key) -> None:
        """`key` went with its worker, whatever its state. Its holds stay to be given back."""
        self.release(key)
        self.left(key)
        if key in self._resident:
            self._policy.removed(key)
            size = self._resident.pop(key)
            self.resident_bytes -= size
            if key in self._holds:
                self._held_bytes -= size

    def shrink(self, budget_bytes: int) -> tuple[Key, ...]:
        """Sets the budget; who must go for it moves to leaving and is returned for unloading."""
        self.budget_bytes = budget_bytes
        excess = self.reserved_bytes + self.resident_bytes - budget_bytes
        return self._evict(excess) if excess > 0 else ()

    def why_evicted(self, key: Key) -> str:
        """Why the policy chose `key`, while it is leaving for that; empty otherwise."""
        return self._reasons.get(key, "")

    def first(self) -> Key | None:
        """Who would be evicted first now; None if everyone is held."""
        return self._policy.first()

    def order(self) -> list[Key]:
        """Who may be evicted, the first to go first. Takes time; for people who ask."""
        return self._policy.order()

    def _start_holding(self, key: Key) -> None:
        self._held_bytes += self._resident[key]
        self._policy.held(key)

    def _start_leaving(self, key: Key) -> int:
        size_bytes = self._resident.pop(key)
        self.resident_bytes -= size_bytes
        self._leaving[key] = size_bytes
        self.leaving_bytes += size_bytes
        return size_bytes

    def _evictable_bytes(self) -> int:
        return self.resident_bytes - self._held_bytes

    def _evict(self, wanted_bytes: int) -> tuple[Key, ...]:
        victims: list[Key] = []
        wanted_bytes = min(wanted_bytes, self._evictable_bytes())
        while wanted_bytes > 0:
            key, reason = self._policy.choose()
            self._reasons[key] = reason
            wanted_bytes -= self._start_leaving(key)
            victims.append(key)
        return tuple(victims)
