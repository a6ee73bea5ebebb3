"""Who floods, and how much of it may go on: a tenant is held to what leaves the server room. Pure.

Decision: taking turns keeps a flood from taking others' places, but a server that is busy all the
time answers nobody at once. So while the event loop wants a core for more than a part of its time,
one tenant that has most of all requests, and many times its due, goes on at a rate that brings it
back to that part; its other requests wait in their queue, which is bounded. It begins with some
times its due, never gets less, and nobody is held who asks alone. It goes on in bursts: many at
once cost less than as many one by one. Rejected: to hold several tenants, which would take the
uneven load of any large server for a flood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

UNPACED: Final = 1 << 30  # requests
RELEASE_SECONDS: Final = 0.004  # between two bursts of the paced tenant's
_FLOOD_DUES: Final = 10  # times its due, which is by weight, make a flood ...
_MOST: Final = 2 / 3  # ... if they are so much of all
_LEAST_DUES: Final = 3  # times its due, which it gets whatever the others ask
_JUDGED_SECONDS: Final = 0.1  # between two verdicts; what was counted before then counts half
_COUNTED_SECONDS: Final = 2 * _JUDGED_SECONDS  # in all, so far back as it counts
_FREE_SECONDS: Final = 1.0  # without anything held back, and it is no flood any more
_FORGOTTEN: Final = 0.01  # of a request: who had that much
_TICK_SECONDS: Final = 0.05  # between two looks at how busy the loop is
_FRESH_SECONDS: Final = 1.0  # what was counted further back says nothing of now
_LEARNT_SECONDS: Final = 0.15  # after which all of what is thought is new
_SLOWER, _FASTER = 0.7, 1.1  # the rate at a look, by the one before


class Pacer:
    """One for all queues that share an event loop.

    Args:
        weights: of tenants, where they are not 1.
        busy_limit: the part of its time that the loop may want a core for; 1: nobody is paced.
        wanted_seconds: for how long it has, so far.
        on_change: told who is paced from now on; None: nobody.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        busy_limit: float = 1.0,
        wanted_seconds: Callable[[], float] = lambda: 0.0,
        on_change: Callable[[str | None], None] = lambda _tenant: None,
    ) -> None:
        self.tenant: str | None = None  # who is paced
        self.release_at = 0.0  # when more of its requests may go
        self.weights, self._limit = weights, busy_limit
        self._wanted_seconds, self._on_change = wanted_seconds, on_change
        self._counts: dict[str, float] = {}  # of requests by tenant, the older the less
        self._judge_at = self._looked_at = self._look_at = self._wanted = 0.0
        self._busy = 0.0  # the part of its time that the loop wanted a core for lately
        self._rate = self._least_rate = 0.0  # requests a second, of the paced tenant's
        self._room = 0.0  # requests of its that may go now
        self._held_at = 0.0

    def room(self, tenant: str, now: float) -> int:
        """How many of a tenant's requests may go now; none before `release_at`."""
        if tenant != self.tenant:
            return UNPACED
        if now >= self.release_at:
            seconds = now - self.release_at + RELEASE_SECONDS
            burst = 1 + 2 * RELEASE_SECONDS * self._rate
            self._room = min(burst, self._room + seconds * self._rate)
            self.release_at = now + RELEASE_SECONDS
        if self._room < 1:
            self._held_at = now
        return int(self._room)

    def took(self, tenant: str, count: int, now: float) -> None:
        """So many of a tenant's requests were handed over."""
        if self._limit >= 1:
            return
        self._counts[tenant] = self._counts.get(tenant, 0) + count
        if tenant == self.tenant:
            self._room -= count
        if now >= self._look_at:
            self._look(now)

    def held_lately(self, now: float) -> str | None:
        """The tenant that had to wait within the last second, which an idle server forgets, too."""
        return self.tenant if now - self._held_at <= _FREE_SECONDS else None

    def drain_seconds(self, tenant: str, count: int) -> float:
        """What so many of a tenant's requests take at least for being paced."""
        return count / self._rate if tenant == self.tenant else 0.0

    def _look(self, now: float) -> None:
        seconds, wanted = now - self._looked_at, self._wanted_seconds()
        learnt = min(1.0, seconds / _LEARNT_SECONDS)
        self._busy += learnt * ((wanted - self._wanted) / seconds - self._busy)
        if seconds > _FRESH_SECONDS:
            self._counts, self._judge_at = {}, now + _JUDGED_SECONDS
            self._pace(None, now)
        self._looked_at, self._wanted, self._look_at = now, wanted, now + _TICK_SECONDS
        if self.tenant is not None:
            change = (self._limit / max(self._busy, 0.01)) ** 0.5
            self._rate = max(self._least_rate, self._rate * min(_FASTER, max(_SLOWER, change)))
        if now >= self._judge_at:
            self._judge_at = now + _JUDGED_SECONDS
            if self.tenant is not None or self._busy > self._limit:
                self._judge(now)
                self._counts = {name: n / 2 for name, n in self._counts.items() if n > _FORGOTTEN}
            else:
                self._counts.clear()

    def _judge(self, now: float) -> None:
        counts, weight = self._counts, self.weights.get
        tenant = self.tenant if self.tenant is not None else max(counts, key=counts.__getitem__)
        total = sum(counts.values())
        due = weight(tenant, 1.0) / sum(weight(each, 1.0) for each in {*counts, tenant})
        self._least_rate = _LEAST_DUES * due * total / _COUNTED_SECONDS
        if self.tenant is not None:
            if now - self._held_at > _FREE_SECONDS:
                self._pace(None, now)
        elif counts[tenant] > total * max(_FLOOD_DUES * due, _MOST):
            self._rate = self._least_rate
            self._pace(tenant, now)

    def _pace(self, tenant: str | None, now: float) -> None:
        if tenant != self.tenant:
            self.tenant, self.release_at, self._room, self._held_at = tenant, 0.0, 0.0, now
            self._on_change(tenant)
