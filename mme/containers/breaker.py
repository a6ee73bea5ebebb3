"""Pure: whether a container that did not answer is asked again.

Decision: one success, whenever it was begun, closes: nothing shows better that the container
answers. Late failures of calls from before it opened change nothing. While it is open one probe at
a time is let through after a pause that doubles; a probe given up half-way leaves the place to the
next.
"""

from __future__ import annotations

from typing import Final, Literal

Outcome = Literal["answered", "failed", "given up"]

_FAILURES: Final = 5
_PAUSE_SECONDS: Final = 1.0
_PAUSE_LIMIT_SECONDS: Final = 30.0


class Attempt:
    """A call that was let through."""


class Breaker:
    """Closed, until `failures` calls in a row have failed; then open; half-open while it is probed.

    Args:
        failures: how many, at least 1.
        pause_seconds: before the first probe.
        pause_limit_seconds: what the doubling ends at.
    """

    def __init__(
        self,
        *,
        failures: int = _FAILURES,
        pause_seconds: float = _PAUSE_SECONDS,
        pause_limit_seconds: float = _PAUSE_LIMIT_SECONDS,
    ) -> None:
        self._limit = failures
        self._first_pause_seconds = pause_seconds
        self._pause_limit_seconds = pause_limit_seconds
        self._failed = 0
        self._retry_at: float | None = None
        self._probe: Attempt | None = None
        self._pause_seconds = pause_seconds

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """Where it is."""
        if self._retry_at is None:
            return "closed"
        return "open" if self._probe is None else "half-open"

    def retry_seconds(self, now: float) -> float:
        """How long no call is let through yet."""
        return 0.0 if self._retry_at is None else max(0.0, self._retry_at - now)

    def refuses(self, now: float) -> bool:
        """Whether no call may be made now."""
        return self._retry_at is not None and (self._probe is not None or now < self._retry_at)

    def admit(self, now: float) -> Attempt:
        """Lets a call through that is not refused; it has to be settled, once."""
        attempt = Attempt()
        if self._retry_at is not None:
            self._probe = attempt
        return attempt

    def settle(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """How a call that was let through went."""
        if outcome == "answered":
            self._close()
            return
        if self._retry_at is None:
            self._count(outcome, now)
        elif attempt is self._probe:
            self._probe = None
            if outcome == "failed":
                self._pause_seconds = min(2 * self._pause_seconds, self._pause_limit_seconds)
                self._retry_at = now + self._pause_seconds

    def let_probe(self, now: float) -> None:
        """Ends the pause: there is reason to think that it answers again."""
        if self._retry_at is not None:
            self._retry_at = min(self._retry_at, now)

    def _count(self, outcome: Outcome, now: float) -> None:
        self._failed += outcome == "failed"
        if self._failed >= self._limit:
            self._retry_at = now + self._pause_seconds

    def _close(self) -> None:
        self._failed = 0
        self._retry_at = None
        self._probe = None
        self._pause_seconds = self._first_pause_seconds
