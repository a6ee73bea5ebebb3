"""Calls at once: so many in all, and of one caller as many as are still free.

Decision: so one caller alone has half of all, and there is always room for another one; nothing
that has begun has to go for it (the dynamic thresholds of a switch's shared buffer).
"""

from __future__ import annotations

from collections import Counter

from mme.errors import Overloaded


class Places:
    """Those taken, counted.

    Args:
        limit: of all at once.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._taken: Counter[str] = Counter()  # by caller

    def take(self, caller: str) -> None:
        """One more of the caller's. Raises Overloaded."""
        if self._taken[caller] >= self._free:
            raise Overloaded("Too many calls at once; try again.")
        self._taken[caller] += 1
        self._free -= 1

    def leave(self, caller: str) -> None:
        """One less."""
        self._free += 1
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]
