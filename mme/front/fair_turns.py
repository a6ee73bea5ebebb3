"""Turns at something that few may do at once, so that no caller has all of them.

Decision: the next turn goes to the caller who has fewest, in rotation among equals. A turn is taken
away only for others: once it has lasted for its fair time and a caller waits who has none, or two
fewer than who has most, whose oldest it is. So what is quick is never cut short, nor is the slow
while nobody else waits. Rejected: a least rate, since how much of a message has come can't be seen.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf

from mme.errors import Overloaded, PayloadTimeout


class _Turn:
    """One caller's; its time begins when the caller's task goes on."""

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.began = inf
        self.limit = asyncio.timeout(None)
        self.is_lost = False


_Place = asyncio.Future[_Turn]


class FairTurns:
    """Those there are.

    Args:
        at_once: how many, one at least.
        seconds: to wait for one, and again that one may last.
        fair_seconds: that one may last in any case.
    """

    def __init__(self, at_once: int, seconds: float, fair_seconds: float) -> None:
        self._free = at_once
        self._seconds, self._fair_seconds = seconds, fair_seconds
        self._turns: set[_Turn] = set()
        self._held: Counter[str] = Counter()  # by caller
        self._waiting: dict[str, deque[_Place]] = {}  # by caller, whose rotation comes first
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def take(self, caller: str) -> AsyncIterator[None]:
        """A turn of the caller's; when its time is over, what is done in it is cancelled.

        Raises:
            Overloaded: there was none in time, or it was lost to others.
            PayloadTimeout: it lasted too long.
        """
        turn = await self._acquire(caller)
        now = asyncio.get_running_loop().time()
        try:
            async with turn.limit:
                turn.began = now
                turn.limit.reschedule(now + self._seconds)
                self._look()
                yield
        except TimeoutError:
            raise self._late(turn) from None
        finally:
            self._release(turn)

    def _late(self, turn: _Turn) -> Overloaded | PayloadTimeout:
        if turn.is_lost:
            return Overloaded("The request came too slowly while others waited; try again.")
        return PayloadTimeout(f"The request was not received within {self._seconds:g} seconds.")

    async def _acquire(self, caller: str) -> _Turn:
        if self._free:  # nobody waits
            return self._grant(caller)
        place: _Place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(place)
        self._look()
        try:
            async with asyncio.timeout(self._seconds):
                return await place
        except TimeoutError:
            self._leave(caller, place)
            raise Overloaded("The server is receiving as much as it can; try again.") from None
        except asyncio.CancelledError:
            self._leave(caller, place)
            raise

    def _leave(self, caller: str, place: _Place) -> None:
        if place.done() and not place.cancelled():  # just when it had come
            self._release(place.result())
            return
        queue = self._waiting.get(caller, deque())
        with suppress(ValueError):
            queue.remove(place)
        if not queue:
            self._waiting.pop(caller, None)

    def _grant(self, caller: str) -> _Turn:
        turn = _Turn(caller)
        self._free -= 1
        self._turns.add(turn)
        self._held[caller] += 1
        return turn

    def _release(self, turn: _Turn) -> None:
        self._free += 1
        self._turns.remove(turn)
        self._held[turn.caller] -= 1
        if not self._held[turn.caller]:
            del self._held[turn.caller]
        while self._free and self._waiting:
            caller = min(self._waiting, key=self._held.__getitem__)
            queue = self._waiting.pop(caller)
            place = queue.popleft()
            if queue:
                self._waiting[caller] = queue  # behind the others
            if not place.done():
                place.set_result(self._grant(caller))
        self._look()

    def _look(self) -> None:
        """Takes a turn away, where one is due; or sees to it that this is looked at then."""
        if self._timer is not None or not self._waiting or self._is_claimed():
            return
        fewest = min(self._held[caller] for caller in self._waiting)
        oldest = max(self._turns, key=lambda turn: (self._held[turn.caller], -turn.began))
        if 0 < fewest >= self._held[oldest.caller] - 1 or oldest.began == inf:
            return
        loop = asyncio.get_running_loop()
        due = oldest.began + self._fair_seconds
        if loop.time() < due:
            self._timer = loop.call_at(due, self._look_again)
            return
        oldest.is_lost = True
        oldest.limit.reschedule(loop.time())

    def _look_again(self) -> None:
        self._timer = None
        self._look()

    def _is_claimed(self) -> bool:
        """Whether one is on its way from caller to caller already."""
        return any(turn.is_lost for turn in self._turns)
