"""Who goes first when room is needed: the least recently used, or what is worth least to keep.

Pure: no clock, no I/O. Who is held is out of the running altogether, so that any number of held
ones costs an eviction nothing; who is let go counts as used until then. Choosing takes O(log n) or
less; counted over many, for `gdsf` may put off to it what the uses since the last choice spared.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Generic, Protocol, TypeVar

Key = TypeVar("Key", bound=Hashable)
_STALE_LIMIT = 64


class Policy(Protocol[Key]):
    """Keeps the order of residents; the ledger tells it what happens to them."""

    def admitted(self, key: Key, size_bytes: int, cost_seconds: float) -> None:
        """Resident from now on; to bring it back would take `cost_seconds`."""
        ...

    def used(self, key: Key) -> None:
        """Asked for."""
        ...

    def held(self, key: Key) -> None:
        """Not to be chosen until `freed`."""
        ...

    def freed(self, key: Key) -> None:
        """To be chosen again; it was in use until now."""
        ...

    def removed(self, key: Key) -> None:
        """No longer resident."""
        ...

    def first(self) -> Key | None:
        """Who would be chosen now; None if all are held."""
        ...

    def choose(self) -> tuple[Key, str]:
        """Removes who goes first, and says why it did. Raises LookupError if all are held."""
        ...

    def order(self) -> list[Key]:
        """Who may be chosen, the first to go first. Takes time; for people who ask."""
        ...


class LeastRecentlyUsed(Generic[Key]):
    """LRU: the order of uses alone."""

    def __init__(self) -> None:
        self._order: OrderedDict[Key, None] = OrderedDict()  # without those held

    def admitted(self, key: Key, size_bytes: int, cost_seconds: float) -> None:
        """See Policy."""
        self._order[key] = None

    def used(self, key: Key) -> None:
        """See Policy."""
        if key in self._order:
            self._order.move_to_end(key)

    def held(self, key: Key) -> None:
        """See Policy."""
        self._order.pop(key, None)

    def freed(self, key: Key) -> None:
        """See Policy."""
        self._order[key] = None

    def removed(self, key: Key) -> None:
        """See Policy."""
        self._order.pop(key, None)

    def first(self) -> Key | None:
        """See Policy."""
        return next(iter(self._order), None)

    def choose(self) -> tuple[Key, str]:
        """See Policy."""
        count = len(self._order)
        key, _ = self._order.popitem(last=False)
        return key, f"least recently used of {count}"

    def order(self) -> list[Key]:
        """See Policy."""
        return list(self._order)


@dataclass(slots=True, eq=False)
class _Worth:
    """What one resident is worth. `value` only ever rises, so its place in the heap is a floor."""

    size_bytes: int
    cost_seconds: float
    uses: int = 0
    value: float = 0.0
    turn: int = 0  # of its last use: among equals the least recently used goes
    held: bool = False
    queued: bool = False  # whether the heap has a place for it, however outdated


class GreedyDualSizeFrequency(Generic[Key]):
    """GDSF: value = clock + uses x load seconds / bytes; the clock is the last victim's value.

    So the small, the slow to load and the often used stay, and what is no longer used is overtaken
    as the clock rises. L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-
    Frequency Caching Policy", HP Laboratories report HPL-98-69R1, 1998. Uses are counted from the
    load on, as there.
    """

    def __init__(self) -> None:
        self._clock = 0.0
        self._turn = 0
        self._worths: dict[Key, _Worth] = {}
        self._held_count = 0
        self._heap: list[tuple[float, int, Key, _Worth]] = []  # turns differ: keys aren't compared

    def admitted(self, key: Key, size_bytes: int, cost_seconds: float) -> None:
        """See Policy."""
        worth = self._worths[key] = _Worth(max(size_bytes, 1), cost_seconds)
        self._use(worth)
        self._queue(key, worth)

    def used(self, key: Key) -> None:
        """See Policy."""
        self._use(self._worths[key])

    def held(self, key: Key) -> None:
        """See Policy."""
        self._worths[key].held = True
        self._held_count += 1

    def freed(self, key: Key) -> None:
        """See Policy."""
        worth = self._worths[key]
        worth.held = False
        self._held_count -= 1
        if not worth.queued:
            self._queue(key, worth)

    def removed(self, key: Key) -> None:
        """See Policy."""
        if self._worths.pop(key).held:
            self._held_count -= 1

    def first(self) -> Key | None:
        """See Policy."""
        while self._heap:
            _value, turn, key, worth = self._heap[0]
            is_free = not worth.held and self._worths.get(key) is worth
            if is_free and turn == worth.turn:
                return key
            heappop(self._heap)
            worth.queued = False
            if is_free:
                self._queue(key, worth)
        return None

    def choose(self) -> tuple[Key, str]:
        """See Policy."""
        self.first()  # brings it to the top
        self._clock, _turn, key, worth = heappop(self._heap)
        count = len(self._worths) - self._held_count
        del self._worths[key]
        return key, (
            f"worth least of {count}: {worth.uses} uses x "
            f"{worth.cost_seconds:.3g} s to load / {worth.size_bytes} bytes"
        )

    def order(self) -> list[Key]:
        """See Policy."""
        free = ((w.value, w.turn, key) for key, w in self._worths.items() if not w.held)
        return [key for _value, _turn, key in sorted(free, key=lambda place: place[:2])]

    def _use(self, worth: _Worth) -> None:
        self._turn += 1
        worth.turn = self._turn
        worth.uses += 1
        worth.value = self._clock + worth.uses * worth.cost_seconds / worth.size_bytes

    def _queue(self, key: Key, worth: _Worth) -> None:
        worth.queued = True
        heappush(self._heap, (worth.value, worth.turn, key, worth))
        if len(self._heap) > 2 * len(self._worths) + _STALE_LIMIT:  # of those that left unchosen
            self._heap = [place for place in self._heap if self._worths.get(place[2]) is place[3]]
            heapify(self._heap)


POLICIES: Mapping[str, Callable[[], Policy[Any]]] = {
    "lru": LeastRecentlyUsed,
    "gdsf": GreedyDualSizeFrequency,
}
"""By the name that the setting `eviction` has for it."""
