"""How many requests are at work in one container and how many wait; beyond that, none is taken."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from mme.errors import Overloaded


class Bulkhead:
    """Places in one container.

    Args:
        name: the container's, in errors.
        places: requests at work at most.
        waiting: requests waiting for a place at most.
    """

    def __init__(self, name: str, *, places: int, waiting: int) -> None:
        self._name = name
        self._places = places
        self._waiting_limit = waiting
        self._free = asyncio.Semaphore(places)
        self.at_work = 0
        self.waiting = 0

    async def enter(self) -> Place:
        """Takes a place, first come, first served.

        Raises:
            Overloaded: as many wait as may.
        Cancellation: gives up waiting.
        """
        if self._free.locked() and self.waiting >= self._waiting_limit:
            raise Overloaded(
                f"Container {self._name} is busy: {self._places} requests are at work and"
                f" {self.waiting} are waiting. Please try again."
            )
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.at_work += 1
        return Place(self)

    def leave(self) -> None:
        """Gives a place back."""
        self.at_work -= 1
        self._free.release()


class Place:
    """One request's place; leaving it twice is harmless."""

    def __init__(self, bulkhead: Bulkhead) -> None:
        self._bulkhead: Bulkhead | None = bulkhead

    def leave(self) -> None:
        """Gives it back."""
        bulkhead, self._bulkhead = self._bulkhead, None
        if bulkhead is not None:
            bulkhead.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
