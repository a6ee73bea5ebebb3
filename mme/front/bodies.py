"""How many bytes of request bodies are here at once: beyond the limit, none is read any more.

Counted are those that are awaited, by the length that they announce, until they are answered; what
came whole with its head is no larger than a socket's buffer, and was read already.
"""

from __future__ import annotations

from mme.errors import Overloaded


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
            raise Overloaded("The server is receiving as much as it can hold; try again.")
        self._held_bytes += size_bytes
        return size_bytes

    def drop(self, size_bytes: int) -> None:
        """So many are here no more."""
        self._held_bytes -= size_bytes
