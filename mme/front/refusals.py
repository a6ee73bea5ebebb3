"""How soon a client is told that it is refused for now. Pure: no clock of its own.

Decision: at once, while few are; beyond, one after the other at an even pace. Who is refused at
once over thousands of connections asks again at once over all of them, and reading and refusing
that takes the event loop's time from everybody. Rejected: the same second for all, which brings all
of them back together; to slow one tenant only, since whose a flood is may be known too late.
"""

from __future__ import annotations

from typing import Final

PER_SECOND: Final = 500
AT_ONCE: Final = 250
MOST_SECONDS: Final = 10.0  # by then, whatever follows: some clients wait for no more than a minute


class Refusals:
    """Those of one server, each with its moment to be told (the generic cell rate algorithm)."""

    def __init__(self) -> None:
        self._next_at = 0.0  # if none were told at once

    def wait_seconds(self, now: float) -> float:
        """How long to wait with one that is due at `now`, on a monotonic clock."""
        at = max(self._next_at, now - AT_ONCE / PER_SECOND)
        self._next_at = min(at + 1 / PER_SECOND, now + MOST_SECONDS)
        return max(0.0, at - now)
