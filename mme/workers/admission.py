"""Whether one more request may wait: places in the queues, and time enough. Pure.

Decision: where all places are taken, the newest of the longest queue goes for another's request, so
that no tenant can fill the whole; a request that its own queue would keep past its deadline is
refused at once, since it would only be in the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from mme.config import WorkerConfig
from mme.errors import Overloaded
from mme.workers.batch import Ticket
from mme.workers.queues import WorkerQueue
from mme.workers.residency import Residency

_UNCROWDED = 32  # waiting in front of one worker: not worth a look


def look_from(config: WorkerConfig, workers: int) -> int:
    """So many wait in front of a worker before it is worth asking `admit`."""
    least = min(config.queue_per_model, config.queue_total // max(1, workers))
    return min(_UNCROWDED, least)


def admit(
    config: WorkerConfig,
    queues: Sequence[WorkerQueue],
    residency: Residency,
    tenant: str,
    left_seconds: float,
) -> None:
    """Returns if a request may be queued; another may have had to go for it.

    Args:
        config: the limits.
        queues: all there are.
        residency: where its model is.
        tenant: whose it is.
        left_seconds: until its deadline.

    Raises:
        Overloaded: it may not.
    """
    queue, model = residency.slot.queue, residency.model
    is_full = queue.waiting_for(model) >= config.queue_per_model
    if is_full or queue.least_seconds(model, tenant) > left_seconds:
        raise _overloaded(queue, model, tenant)
    if sum(each.waiting_count for each in queues) < config.queue_total:
        return
    fullest = max(queues, key=lambda each: each.waiting_count)
    lane = fullest.longest()
    if queue.waiting_for(model) + 1 >= len(lane.tickets):
        raise _overloaded(queue, model, tenant)
    _refuse(fullest, fullest.drop_last(lane))


def _refuse(queue: WorkerQueue, ticket: Ticket) -> None:
    ticket.fail(_overloaded(queue, ticket.model, ticket.tenant))


def _overloaded(queue: WorkerQueue, model: str, tenant: str) -> Overloaded:
    return Overloaded(
        "Too many requests are waiting for this model.", queue.drain_seconds(model, tenant)
    )
