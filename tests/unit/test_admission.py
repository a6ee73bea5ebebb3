"""Who may wait: bounded by model, by all together, and by the deadline."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from mme.config import WorkerConfig
from mme.errors import Overloaded
from mme.workers.admission import admit, look_from
from mme.workers.batch import Ticket
from mme.workers.batch_limits import BatchLimits
from mme.workers.protocol import Ask
from mme.workers.queues import WorkerQueue


def fill(queue: WorkerQueue, model: str, count: int) -> list[Ticket]:
    loop = asyncio.get_running_loop()
    tickets = [Ticket(model, Ask(b"x"), loop.create_future(), 0.0, model) for _ in range(count)]
    for ticket in tickets:
        queue.put(ticket)
    return tickets


def ask(queue: WorkerQueue, model: str, config: WorkerConfig, left_seconds: float = 60.0) -> None:
    residency = SimpleNamespace(slot=SimpleNamespace(queue=queue), model=model)
    admit(config, [queue], residency, model, left_seconds)


async def test_a_model_may_have_so_many_waiting_and_others_still_may():
    queue, config = (
        WorkerQueue(BatchLimits()),
        WorkerConfig(queue_per_model=3),
    )
    fill(queue, "a", 3)
    with pytest.raises(Overloaded):
        ask(queue, "a", config)
    ask(queue, "b", config)


async def test_the_newest_of_the_longest_queue_goes_for_another():
    queue, config = WorkerQueue(BatchLimits()), WorkerConfig(queue_total=5)
    tickets = fill(queue, "a", 5)
    ask(queue, "b", config)
    assert isinstance(tickets[-1].outcome.exception(), Overloaded)
    assert not any(ticket.outcome.done() for ticket in tickets[:-1])
    assert queue.waiting_count == 4


async def test_who_fills_the_queue_is_refused_itself():
    queue, config = WorkerQueue(BatchLimits()), WorkerConfig(queue_total=5)
    tickets = fill(queue, "a", 5)
    with pytest.raises(Overloaded):
        ask(queue, "a", config)
    assert not any(ticket.outcome.done() for ticket in tickets)


async def test_what_cannot_be_answered_in_time_is_refused_at_once_and_told_when_to_come():
    queue, config = WorkerQueue(BatchLimits()), WorkerConfig()
    fill(queue, "a", 1)
    [batch] = queue.next_handover(0.0)
    queue.finish(batch.number, 0.0, 0.5)
    fill(queue, "a", 10)
    with pytest.raises(Overloaded) as refused:
        ask(queue, "a", config, left_seconds=4.0)
    assert refused.value.retry_after_seconds == pytest.approx(5.0, rel=0.1)
    ask(queue, "a", config, left_seconds=6.0)


@pytest.mark.parametrize(("total", "workers", "expected"), [(10_000, 2, 32), (8, 4, 2)])
def test_nobody_looks_before_it_can_matter(total, workers, expected):
    assert look_from(WorkerConfig(queue_total=total), workers) == expected
