"""Batches are what is queued; models take turns; a worker has one batch and the next."""

from __future__ import annotations

import asyncio

from mme.workers.protocol import Ask
from mme.workers.queues import Ticket, WorkerQueue


def ticket(model: str, body: bytes = b"x") -> Ticket:
    return Ticket(model, Ask(body), asyncio.get_running_loop().create_future(), 0.0)


def fill(queue: WorkerQueue, models: str) -> list[Ticket]:
    tickets = [ticket(model) for model in models]
    for one in tickets:
        queue.put(one)
    return tickets


async def test_a_batch_is_what_is_queued_for_one_model_at_that_moment():
    queue = WorkerQueue(64, 1000)
    tickets = fill(queue, "aab")
    assert queue.next_batch(1.0).tickets == tickets[:2]
    assert queue.next_batch(1.0).tickets == tickets[2:]


async def test_the_worker_has_one_batch_and_at_most_the_next():
    queue = WorkerQueue(64, 1000)
    fill(queue, "abc")
    first, second = queue.next_batch(1.0), queue.next_batch(1.0)
    assert queue.next_batch(1.0) is None
    assert (first.running_since, second.running_since) == (1.0, None)
    assert queue.finish(first.number, 3.0) is first
    assert second.running_since == 3.0
    assert queue.next_batch(3.0).model == "c"


async def test_models_take_turns_however_much_one_of_them_asks():
    queue = WorkerQueue(2, 1000)
    fill(queue, "aaaaaab")
    turns = []
    while (batch := queue.next_batch(0.0)) is not None:
        turns.append(batch.model * len(batch.tickets))
        queue.finish(batch.number, 0.0)
    assert turns == ["aa", "b", "aa", "aa"]


async def test_a_batch_stops_at_the_limit_of_bytes_but_a_large_request_goes_alone():
    queue = WorkerQueue(64, 10)
    for size in (20, 6, 4, 1):
        queue.put(ticket("a", b"x" * size))
    sizes = []
    while (batch := queue.next_batch(0.0)) is not None:
        sizes.append([len(one.ask.body) for one in batch.tickets])
        queue.finish(batch.number, 0.0)
    assert sizes == [[20], [6, 4], [1]]


async def test_a_request_nobody_waits_for_is_not_sent():
    queue = WorkerQueue(64, 1000)
    first, second = fill(queue, "aa")
    queue.discard(first)
    assert queue.next_batch(0.0).tickets == [second]
    assert queue.waiting_count == 0


async def test_what_had_not_begun_when_the_worker_ended_is_told_from_what_had():
    queue = WorkerQueue(1, 1000)
    tickets = fill(queue, "abcc")
    queue.next_batch(0.0)
    queue.next_batch(0.0)
    started, waiting = queue.abandon()
    assert started == tickets[:1]
    assert waiting == tickets[1:]
    assert (queue.waiting_count, queue.sent_count) == (0, 0)


async def test_an_answer_to_a_batch_it_was_not_at_is_noticed():
    queue = WorkerQueue(64, 1000)
    fill(queue, "ab")
    queue.next_batch(0.0)
    second = queue.next_batch(0.0)
    assert queue.finish(second.number, 1.0) is None
