"""Whose turn is next: start-time fair queueing over tenants, by the seconds that each took. Pure.

Decision: a tenant that was idle begins where those being served are, not where it once stopped:
nobody saves turns up, and nobody pays for having used what was free. What a turn takes is
predicted, and put right once it is known. A turn is a batch or a load, not a request, and costs a
heap's step. Rejected: deficit round robin, whose quantum has to be as large as the largest batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

_KEPT: Final = 1024  # tenants that are remembered without waiting, before any is forgotten


class Share(Generic[Item]):
    """What waits for one tenant, and how far it has been served."""

    __slots__ = ("ends", "items", "tenant", "weight")

    def __init__(self, tenant: str, weight: float) -> None:
        self.tenant = tenant
        self.weight = weight
        self.ends = 0.0  # in virtual seconds: where its next turn may begin
        self.items: list[Item] = []  # few; an empty deque takes ten times as much, a tenant each

    def charge(self, seconds: float) -> None:
        """It has taken so much; less than nothing where it was charged too much before."""
        self.ends += seconds / self.weight


class FairQueue(Generic[Item]):
    """Items of many tenants, in the order in which all get their due.

    Args:
        weights: tenants' shares where they are not 1.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._shares: dict[str, Share[Item]] = {}
        self._heap: list[tuple[float, int, Share[Item]]] = []  # each with items, once
        self._numbers = 0
        self._now = 0.0  # in virtual seconds: where the last turn began
        self._kept = _KEPT

    def __len__(self) -> int:
        return len(self._heap)  # tenants for whom something waits

    def put(self, tenant: str, item: Item) -> None:
        """Queues an item behind its tenant's others."""
        share = self._shares.get(tenant)
        if share is None:
            share = self._join(tenant)
        if not share.items:
            self._push(max(share.ends, self._now), share)
        share.items.append(item)

    def take(self) -> tuple[Share[Item], Item]:
        """The next item, and whose it is, who is to be charged for it. Only while there is one."""
        start, _, share = heappop(self._heap)
        while share.ends > start:  # it was charged since
            self._push(share.ends, share)
            start, _, share = heappop(self._heap)
        share.ends = self._now = start
        item = share.items.pop(0)
        if share.items:
            self._push(start, share)
        return share, item

    def clear(self) -> None:
        """Nobody waits any more."""
        for _, _, share in self._heap:
            share.items.clear()
        self._heap.clear()

    def _push(self, start: float, share: Share[Item]) -> None:
        self._numbers += 1  # who came first, of those that may begin at once
        heappush(self._heap, (start, self._numbers, share))

    def _join(self, tenant: str) -> Share[Item]:
        if len(self._shares) >= self._kept:
            busy = {name: each for name, each in self._shares.items() if each.items}
            self._shares = busy  # what the others owe is forgiven, once in a thousand tenants
            self._kept = max(_KEPT, 2 * len(self._shares))
        share: Share[Item] = Share(tenant, self._weights.get(tenant, 1.0))
        self._shares[tenant] = share
        return share
