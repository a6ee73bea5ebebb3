"""How many bytes of bodies are here at once: beyond the limit, no request is read or answered.

Counted are requests that are awaited, by the length that they announce, until they are answered;
what came whole with its head is no larger than a socket's buffer, and was read already. And answers
that are larger than such a buffer, until their clients have taken them.
Decision: one caller may have as many bytes as are still free, so half of all alone: who announces
much and sends it slowly leaves room for others (as calls have it, see `Places`).
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from mme.errors import Overloaded

LARGE_BYTES: Final = 1 << 16  # an answer, from which on it is counted


class Bodies:
    """The bytes, counted.

    Args:
        limit_bytes: of all at once.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._free_bytes = limit_bytes
        self._held: Counter[str] = Counter()  # by caller

    @property
    def held_bytes(self) -> int:
        """Those that are here."""
        return self._held.total()

    def hold(self, size_bytes: int, caller: str) -> int:
        """So many more of the caller's are to be here, which are returned. Raises Overloaded."""
        if self._held[caller] + size_bytes > self._free_bytes:
            raise Overloaded("The server holds as many bodies as it can; try again.")
        self._held[caller] += size_bytes
        self._free_bytes -= size_bytes
        return size_bytes

    def drop(self, size_bytes: int, caller: str) -> None:
        """So many are here no more."""
        self._free_bytes += size_bytes
        self._held[caller] -= size_bytes
        if not self._held[caller]:
            del self._held[caller]
