"""When a worker has kept us waiting for too long. Pure: no clock of its own."""

from __future__ import annotations

from mme.config import WorkerConfig
from mme.workers.batch import Batch
from mme.workers.ends import Cause, Doing


def overdue(
    config: WorkerConfig, now: float, last_sign_at: float, running: Batch | None
) -> Cause | None:
    """Why the worker has to be ended; None while it need not be.

    Args:
        config: how long it may be silent, and how long a batch may run.
        now: on the monotonic clock, as all times here.
        last_sign_at: when it was last heard of.
        running: the batch it is at.
    """
    if now - last_sign_at > config.silence_seconds:
        silence = f"it gave no sign of life for {config.silence_seconds:g} s"
        return Cause(silence, Doing.ANYONE)
    limit_seconds = config.invocation_seconds + config.grace_seconds
    since = running.running_since if running else None
    if since is not None and now - since > limit_seconds:
        return Cause(f"a prediction ran for more than {limit_seconds:g} s", Doing.BATCH)
    return None
