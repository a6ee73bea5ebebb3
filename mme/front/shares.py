"""What callers share: so much in all, and of one caller as much as is still free.

Decision: so one caller alone has half of all, and there is always room for another one; nothing
that has begun has to go for it (the dynamic thresholds of a switch's shared buffer).
"""

from __future__ import annotations

from collections import Counter

from mme.errors import Overloaded


class Shares:
    """What is taken, counted.

    Args:
        limit: of all at once.
        refusal: what is told who can't have more.
    """

    def __init__(self, limit: int, refusal: str) -> None:
        self._free, self._refusal = limit, refusal
        self._held: Counter[str] = Counter()  # by caller

    def hold(self, amount: int, caller: str) -> int:
        """So much more is the caller's, which is returned. Raises Overloaded."""
        if self._held[caller] + amount > self._free:
            raise Overloaded(self._refusal)
        self._held[caller] += amount
        self._free -= amount
        return amount

    def drop(self, amount: int, caller: str) -> None:
        """So much is the caller's no more."""
        self._free += amount
        self._held[caller] -= amount
        if not self._held[caller]:
            del self._held[caller]
