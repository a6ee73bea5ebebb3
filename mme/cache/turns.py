"""Whose load comes next: so many at once, those that someone waits for before those made ahead.

Decision: urgency is a load's own and may rise while it waits, never fall: the first request that
joins a load made ahead raises it. One that has its turn keeps it; who loads ahead therefore asks
for few turns at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Turns(Generic[Key]):
    """Turns for loads, by key. Not thread-safe: one event loop owns it.

    Args:
        count: how many are taken at once, at most.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._urgent: dict[asyncio.Future[None], Key] = {}  # who came first is first
        self._ahead: dict[asyncio.Future[None], Key] = {}

    @contextlib.asynccontextmanager
    async def turn(self, key: Key, *, ahead: bool = False) -> AsyncIterator[None]:
        """Waits for a turn, and has it while entered.

        Cancellation: its place goes to the next.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait(key, self._ahead if ahead else self._urgent)
        try:
            yield
        finally:
            self._pass_on()

    def hurry(self, key: Key) -> None:
        """Someone waits for `key` now: where it waits as made ahead, it does so no longer."""
        for waiter in [waiter for waiter, ahead in self._ahead.items() if ahead == key]:
            self._urgent[waiter] = self._ahead.pop(waiter)

    async def _wait(self, key: Key, queue: dict[asyncio.Future[None], Key]) -> None:
        waiter = asyncio.get_running_loop().create_future()
        queue[waiter] = key
        try:
            await waiter
        except asyncio.CancelledError:
            self._ahead.pop(waiter, None)
            self._urgent.pop(waiter, None)
            if waiter.done() and not waiter.cancelled():
                self._pass_on()  # it was given the turn in the same moment
            raise

    def _pass_on(self) -> None:
        for queue in (self._urgent, self._ahead):
            while queue:
                waiter = next(iter(queue))
                del queue[waiter]
                if not waiter.done():
                    waiter.set_result(None)
                    return
        self._free += 1
