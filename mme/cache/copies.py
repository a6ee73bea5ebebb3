"""Which model gets one more copy, and which one loses it: out of queues and rates. Pure.

Decisions: what asks for a copy is a queue that stays long for a while beside a worker with less to
do, not a burst; its length is averaged, since a batch takes a whole queue at once. A copy is given
up when all copies together were asked for less, over a while, than half of what they could do
without it, as measured when they could do no more. Rejected: a threshold on the rate alone, which
says nothing about what a request costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mme.domain import ModelKey

_CROWDED_SECONDS: Final = 1.0  # a queue has to be long for this long
_WEIGHT: Final = 0.25  # of the newest look at a queue
_FORGOTTEN_RATIO: Final = 0.1  # of the limit, below which a queue is of no interest any more
_NEEDLESS_RATIO: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """One model at one moment."""

    key: ModelKey
    copies: int
    waiting: int  # requests that its fullest copy has not answered
    answered: int  # by all copies since they were loaded
    backlog: int  # requests that its fullest worker has not answered, whatever their models
    idlest_backlog: int | None  # of the idlest worker without a copy; None: all have one


@dataclass(frozen=True, slots=True)
class Add:
    """One more copy is asked for."""

    key: ModelKey


@dataclass(frozen=True, slots=True)
class Drop:
    """One copy less would do."""

    key: ModelKey


@dataclass(slots=True)
class _Watched:
    copies: int
    since: float  # when this number of copies was first seen, or last judged
    answered: int  # by then
    crowded_since: float | None = None
    crowded_answered: int = 0
    waiting: float = 0.0  # averaged
    limit_per_second: float = 0.0  # what the copies before the last one could do; 0: not known


class Copies:
    """The models that are watched: those with long queues or several copies.

    Args:
        waiting_limit: a model with so many requests unanswered is crowded.
        idle_seconds: over how long a copy has to be needless before it goes.
    """

    def __init__(self, waiting_limit: int, idle_seconds: float) -> None:
        self._waiting_limit = waiting_limit
        self._idle_seconds = idle_seconds
        self._watched: dict[ModelKey, _Watched] = {}

    def keys(self) -> list[ModelKey]:
        """Whose demand is to be told at the next decision, crowded or not."""
        return list(self._watched)

    def decide(self, demands: Iterable[Demand], now: float) -> list[Add | Drop]:
        """What the moment asks for; who is not told of is forgotten."""
        before, self._watched = self._watched, {}
        found = (self._judge(demand, before.get(demand.key), now) for demand in demands)
        return [decision for decision in found if decision is not None]

    def _judge(self, demand: Demand, watched: _Watched | None, now: float) -> Add | Drop | None:
        if watched is None:
            watched = _Watched(demand.copies, now, demand.answered)
        elif watched.copies != demand.copies:
            limit_per_second = watched.limit_per_second
            watched = _Watched(demand.copies, now, demand.answered)
            watched.limit_per_second = limit_per_second
        watched.waiting += _WEIGHT * (demand.waiting - watched.waiting)
        if demand.copies > 1 or watched.waiting >= _FORGOTTEN_RATIO * self._waiting_limit:
            self._watched[demand.key] = watched
        if self._crowded(demand, watched, now):
            return Add(demand.key)
        return Drop(demand.key) if self._needless(demand, watched, now) else None

    def _crowded(self, demand: Demand, watched: _Watched, now: float) -> bool:
        idlest = demand.idlest_backlog
        if watched.waiting < self._waiting_limit or idlest is None or 2 * idlest > demand.backlog:
            watched.crowded_since = None
            return False
        if watched.crowded_since is None:
            watched.crowded_since, watched.crowded_answered = now, demand.answered
        seconds = now - watched.crowded_since
        if seconds < _CROWDED_SECONDS:
            return False
        watched.limit_per_second = (demand.answered - watched.crowded_answered) / seconds
        watched.crowded_since = None
        return True

    def _needless(self, demand: Demand, watched: _Watched, now: float) -> bool:
        seconds = now - watched.since
        if demand.copies == 1 or seconds < self._idle_seconds:
            return False
        per_second = (demand.answered - watched.answered) / seconds
        watched.since, watched.answered = now, demand.answered
        limit = watched.limit_per_second
        return watched.waiting < self._waiting_limit and (
            not limit or per_second < _NEEDLESS_RATIO * limit
        )
