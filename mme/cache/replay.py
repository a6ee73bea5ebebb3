"""Pure: accesses replayed against a budget and a policy, by the ledger that the server uses.

What it leaves out: models come at once and one at a time, at the size they were measured at, so
nothing is leased and nothing waits. Every replay starts empty: compare replays with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mme.cache.ledger import Admit, Evict, Ledger
from mme.cache.policy import POLICIES


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """Who was asked for, in order, and what each takes."""

    numbers: Sequence[int]  # of models, in order
    sizes_bytes: Sequence[int]  # by number, as this
    load_seconds: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """What became of them."""

    budget_bytes: int
    eviction: str
    requests: int
    hits: int
    loads: int
    refused: int  # larger than the budget
    evictions: int
    load_seconds: float  # spent loading, in all

    @property
    def misses(self) -> int:
        """Requests that did not find their model in memory."""
        return self.loads + self.refused

    def describe(self) -> dict[str, object]:
        """As JSON."""
        return {**asdict(self), "misses": self.misses}


def replay(trace: Trace, budget_bytes: int, eviction: str) -> Replayed:
    """Replays `trace`; takes a few microseconds an access.

    Args:
        trace: the accesses.
        budget_bytes: of the cache that is tried.
        eviction: a key of POLICIES.
    """
    ledger: Ledger[int] = Ledger(budget_bytes, POLICIES[eviction]())
    sizes, costs = trace.sizes_bytes, trace.load_seconds
    hits = loads = refused = evictions = 0
    load_seconds = 0.0
    for number in trace.numbers:
        if ledger.is_resident(number):
            ledger.touch(number)
            hits += 1
            continue
        victims = _make_room(ledger, number, sizes[number])
        if victims is None:
            refused += 1
            continue
        ledger.commit(number, costs[number])
        loads += 1
        evictions += victims
        load_seconds += costs[number]
    return Replayed(
        budget_bytes=budget_bytes,
        eviction=eviction,
        requests=len(trace.numbers),
        hits=hits,
        loads=loads,
        refused=refused,
        evictions=evictions,
        load_seconds=load_seconds,
    )


def _make_room(ledger: Ledger[int], number: int, size_bytes: int) -> int | None:
    """How many had to go; None where it does not fit at all."""
    match ledger.reserve(number, size_bytes):
        case Admit():
            return 0
        case Evict(victims):
            for victim in victims:
                ledger.left(victim)
            ledger.reserve(number, size_bytes)
            return len(victims)
        case _:
            return None
