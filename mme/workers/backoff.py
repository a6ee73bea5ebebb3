"""How long to wait before a worker is started again: doubles, until one has lived steadily."""

from __future__ import annotations

_FIRST_SECONDS = 0.1
_LIMIT_SECONDS = 30.0
_STEADY_SECONDS = 60.0  # a worker that lived this long starts the back-off anew


class Backoff:
    """The pauses of one slot."""

    def __init__(self) -> None:
        self._seconds = _FIRST_SECONDS
        self.count = 0  # of pauses, and so of restarts

    def ended(self, lived_seconds: float) -> None:
        """A worker has ended after so long."""
        if lived_seconds > _STEADY_SECONDS:
            self._seconds = _FIRST_SECONDS

    def next_seconds(self) -> float:
        """The pause before the next start."""
        self.count += 1
        seconds = self._seconds
        self._seconds = min(2 * seconds, _LIMIT_SECONDS)
        return seconds
