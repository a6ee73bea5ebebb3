"""How many bytes of bodies are here at once: beyond the limit, no request is read or answered.

Counted are requests that are awaited, by the length that they announce, until they are answered;
what came whole with its head is no larger than a socket's buffer, and was read already. And answers
that are larger than such a buffer, until their clients have taken them.
Who announces much and sends it slowly leaves room for others, see `Shares`.
"""

from __future__ import annotations

from typing import Final

from mme.front.shares import Shares

LARGE_BYTES: Final = 1 << 16  # an answer, from which on it is counted


class Bodies(Shares):
    """The bytes.

    Args:
        limit_bytes: of all at once.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes, "The server holds as many bodies as it can; try again.")

    @property
    def held_bytes(self) -> int:
        """Those that are here."""
        return self._held.total()
