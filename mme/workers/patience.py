"""When a worker has kept us waiting for too long. Pure: no clock of its own."""

from __future__ import annotations

from math import inf

from mme.config import WorkerConfig
from mme.workers.batch import Batch
from mme.workers.ends import Cause, Doing


class Patience:
    """With one worker after another, looked at every heartbeat.

    Decision: a server that did not look for half of the time that a worker may be silent was away
    itself (its machine paused, its container frozen), and heard of nobody: what was before does not
    count, or it would end all workers, and all models with them, when it comes back.

    Args:
        config: how long it may be silent, and how long a batch may run.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._away_seconds = max(config.silence_seconds / 2, 2 * config.heartbeat_seconds)
        self._looked_at = self._back_at = -inf

    def overdue(self, now: float, last_sign_at: float, running: Batch | None) -> Cause | None:
        """Why the worker has to be ended; None while it need not be.

        Args:
            now: on the monotonic clock, as all times here.
            last_sign_at: when it was last heard of.
            running: the batch it is at.
        """
        config = self._config
        if now - self._looked_at > self._away_seconds:
            self._back_at = now
        self._looked_at = now
        if now - max(last_sign_at, self._back_at) > config.silence_seconds:
            silence = f"it gave no sign of life for {config.silence_seconds:g} s"
            return Cause(silence, Doing.ANYONE)
        limit_seconds = config.invocation_seconds + config.grace_seconds
        since = running.running_since if running else None
        if since is not None and now - max(since, self._back_at) > limit_seconds:
            return Cause(f"a prediction ran for more than {limit_seconds:g} s", Doing.BATCH)
        return None
