"""How many bytes of bodies are here at once: beyond the limit, no request is read or answered.

Counted are requests that are awaited, by the length that they announce, until they are answered;
what came whole with its head is no larger than a socket's buffer, and was read already. And answers
that are larger than such a buffer, until their clients have taken them.
"""

from __future__ import annotations

from typing import Final

from mme.errors import Overloaded

LARGE_BYTES: Final = 1 << 16  # an answer, from which on it is counted


class Bodies:
    """The bytes, counted.

    Args:
        limit_bytes: of all at once.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    def hold(self, size_bytes: int) -> int:
        """So many more are to be here, which are returned. Raises Overloaded."""
        if self._held_bytes + size_bytes > self._limit_bytes:
            raise Overloaded("The server holds as many bodies as it can; try again.")
        self._held_bytes += size_bytes
        return size_bytes

    def drop(self, size_bytes: int) -> None:
        """So many are here no more."""
        self._held_bytes -= size_bytes
