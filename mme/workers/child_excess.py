"""What a worker holds beyond what its models are charged: seen at rest, after a trim.

Decisions: it is looked at while nothing is predicted and nothing loaded, for what either needs for
a moment is no hoard; and what has grown counts once the heap was trimmed, for what lies free in it
is none. What a framework brings is the worker's own, as what the process began with is: all that
was taken since the last look before it was imported. Who looks collects no garbage: what frameworks
have made is not to be undone in any thread; an unload does that, of whoever held too much perhaps.
A worker that always has a next batch rests only for whom it lets go first: who looks is.
Rejected: to add up what each load and each prediction has taken; the errors add up, too.
"""

from __future__ import annotations

import threading
import time

from mme.workers import memory
from mme.workers.losses import Losses

_PATIENCE_BEATS = 0.5  # for a batch to end
_WORTH_TRIMMING_BYTES = 4 * 1024**2
_PAUSE_BEATS = 10  # until it is tried again to get memory back


class Excess:
    """Looked at by one thread; `predicting` and `loading` are entered by those that do so.

    Args:
        losses: know what models are charged.
        beat_seconds: how often it is looked at.
    """

    def __init__(self, losses: Losses, beat_seconds: float) -> None:
        self._predicting, self.loading = threading.Lock(), threading.Lock()
        self._turn = threading.Lock()  # held by who waits for a batch to end: it is the next
        self._losses = losses
        self._patience_seconds = _PATIENCE_BEATS * beat_seconds
        self._pause_seconds = _PAUSE_BEATS * beat_seconds
        self._trim_at = self._collect_at = 0.0
        self._own_bytes, self._is_own = 0, True  # of the process; all that has come is
        self._charged_bytes = self._excess_bytes = 0
        self._held_bytes = 0  # of the excess: no trim will give it back

    @property
    def predicting(self) -> threading.Lock:
        """To be held during a batch; waits while it is looked."""
        with self._turn:
            return self._predicting

    def imported(self) -> None:
        """A framework was; while `loading` is held."""
        self._is_own = True

    def look(self) -> int:
        """What is held too much, in bytes; as it was, where something was always under way."""
        beyond_bytes = self._beyond_bytes()
        if beyond_bytes is None:
            return self._excess_bytes
        charged_bytes, self._charged_bytes = self._charged_bytes, self._losses.charged_bytes
        if self._charged_bytes < charged_bytes:
            self._held_bytes = 0  # models have left, and with them who held it, perhaps
        is_more = beyond_bytes >= self._held_bytes + _WORTH_TRIMMING_BYTES
        if self._is_own or (is_more and time.monotonic() >= self._trim_at):
            before_bytes = memory.private_bytes()
            memory.trim()
            self._losses.trimmed(before_bytes - memory.private_bytes())
            self._count(self._beyond_bytes())
        elif beyond_bytes < self._excess_bytes:
            self._excess_bytes = max(0, beyond_bytes)
            self._held_bytes = min(self._held_bytes, self._excess_bytes)
        return self._excess_bytes

    def expected_bytes(self) -> int:
        """What may come back with garbage when models leave; 0 where that was lately tried."""
        now = time.monotonic()
        if self._excess_bytes < _WORTH_TRIMMING_BYTES or now < self._collect_at:
            return 0
        self._collect_at = now + self._pause_seconds
        return self._excess_bytes

    def _count(self, beyond_bytes: int | None) -> None:
        """After a trim."""
        if beyond_bytes is None:
            return
        if self._is_own:
            self._own_bytes += beyond_bytes - self._excess_bytes
            self._is_own = False
            return
        if beyond_bytes < self._excess_bytes + _WORTH_TRIMMING_BYTES:
            self._trim_at = time.monotonic() + self._pause_seconds  # it lay free, and will again
        self._excess_bytes = self._held_bytes = max(0, beyond_bytes)

    def _beyond_bytes(self) -> int | None:
        """What is private, neither charged nor the worker's own. None: something is under way."""
        with self._turn:
            if not self._predicting.acquire(timeout=self._patience_seconds):
                return None
            try:
                if not self.loading.acquire(blocking=False):
                    return None
                try:
                    held_bytes = memory.private_bytes() - self._losses.charged_bytes
                    return held_bytes - self._own_bytes
                finally:
                    self.loading.release()
            finally:
                self._predicting.release()
