"""Deadlines of who waits for a worker: one timer for all that end in the same twentieth second.

Decision: nearly no request ends by its deadline, so setting one has to cost nothing: a set takes
its future, and gives it back. `asyncio.timeout` took a timer, two context switches and a task's
cancellation for each. The price: a deadline is met up to 50 ms late, never early.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, TypeAlias

_PER_SECOND = 20

Waiting: TypeAlias = "set[asyncio.Future[Any]]"  # any: what they wait for is theirs


class Deadlines:
    """Fails futures with TimeoutError when their time has come."""

    def __init__(self) -> None:
        self._groups: dict[int, tuple[Waiting, asyncio.TimerHandle]] = {}

    def until(self, deadline: float) -> Waiting:
        """The group of those with this deadline, on the loop's clock, in seconds.

        A future is put into it, and taken out once it is done.
        """
        turn = math.ceil(deadline * _PER_SECOND)
        group = self._groups.get(turn)
        if group is None:
            timer = asyncio.get_running_loop().call_at(turn / _PER_SECOND, self._end, turn)
            group = self._groups[turn] = set(), timer
        return group[0]

    def close(self) -> None:
        """From now on nothing is late."""
        for _, timer in self._groups.values():
            timer.cancel()
        self._groups.clear()

    def _end(self, turn: int) -> None:
        waiting, _ = self._groups.pop(turn)
        for future in waiting:
            if not future.done():
                future.set_exception(TimeoutError())
