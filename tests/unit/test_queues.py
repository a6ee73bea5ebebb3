"""Batches are what is queued; models take turns; a worker has one handover and the next."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from mme.workers.batch import Batch, Ticket
from mme.workers.batch_limits import BatchLimits, count_rows
from mme.workers.pacing import Pacer
from mme.workers.protocol import Ask
from mme.workers.queues import WorkerQueue


def ticket(model: str, body: bytes = b"x") -> Ticket:
    return Ticket(model, Ask(body), asyncio.get_running_loop().create_future(), 0.0)


def fill(queue: WorkerQueue, models: str) -> list[Ticket]:
    tickets = [ticket(model) for model in models]
    for one in tickets:
        queue.put(one)
    return tickets


def next_batch(queue: WorkerQueue, now: float) -> Batch | None:
    """The next handover, where that is one batch."""
    batches = queue.next_handover(now)
    assert len(batches) <= 1
    return batches[0] if batches else None


def taught(queue: WorkerQueue, models: str, seconds: float) -> None:
    for one in fill(queue, models):
        batch = next_batch(queue, 0.0)
        assert batch.tickets == [one]
        queue.finish(batch.number, 0.0, seconds)


async def test_a_batch_is_what_is_queued_for_one_model_at_that_moment():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    tickets = fill(queue, "aab")
    assert next_batch(queue, 1.0).tickets == tickets[:2]
    assert next_batch(queue, 1.0).tickets == tickets[2:]


async def test_the_worker_has_one_batch_and_at_most_the_next():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    fill(queue, "abc")
    first, second = next_batch(queue, 1.0), next_batch(queue, 1.0)
    assert next_batch(queue, 1.0) is None
    assert (first.running_since, second.running_since) == (1.0, None)
    assert queue.finish(first.number, 3.0) is first
    assert second.running_since == 3.0
    assert next_batch(queue, 3.0).model == "c"


def handed_over(queue: WorkerQueue) -> str:
    return "".join(batch.model for batch in queue.next_handover(1.0))


async def test_what_takes_little_is_handed_over_together():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    taught(queue, "abcdefgh", seconds=0.0003)  # and a tenth of ours each
    fill(queue, "abcdefgh")
    first = queue.next_handover(1.0)
    assert [batch.model for batch in first] == ["a", "b", "c"]  # with the third it is full
    assert [batch.running_since for batch in first] == [1.0, None, None]
    assert handed_over(queue) == "def"
    for batch in first[:2]:
        queue.finish(batch.number, 1.0, 0.0003)
        assert handed_over(queue) == ""  # two are there as long as any of the first is
    queue.finish(first[2].number, 1.0, 0.0003)
    assert handed_over(queue) == "gh"


async def test_a_batch_that_nobody_knows_the_time_of_is_the_last_of_its_handover():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    taught(queue, "acd", seconds=0.0001)
    fill(queue, "abcd")
    assert handed_over(queue) == "ab"
    assert handed_over(queue) == "cd"


async def test_what_was_on_its_way_to_a_worker_that_ended_holds_nothing_back():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    fill(queue, "abc")
    assert handed_over(queue) == "a"
    assert handed_over(queue) == "b"
    queue.abandon()
    taught(queue, "abc", seconds=0.0001)
    fill(queue, "abc")
    assert handed_over(queue) == "abc"


async def test_a_request_that_waited_long_makes_its_queue_late_for_a_while():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    fill(queue, "ab")
    next_batch(queue, 0.001)
    assert queue.late_until == 0.0
    next_batch(queue, 0.1)
    assert 0.1 < queue.late_until < 1.0


async def test_what_a_forgotten_model_takes_is_not_learnt_from_a_batch_that_ran_on():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    fill(queue, "a")
    batch = next_batch(queue, 0.0)
    queue.forget("a")
    queue.finish(batch.number, 1.0, seconds=1.0)
    assert not queue._seconds


async def test_who_waits_for_a_withdrawn_model_is_handed_over_and_the_others_go_on():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    tickets = fill(queue, "aab")
    another = ticket("a")
    another.tenant = "other"
    queue.put(another)
    assert queue.withdraw("a") == [*tickets[:2], another]
    assert queue.withdraw("a") == queue.withdraw("unknown") == []
    assert queue.waiting_count == 1
    queue.forget("a")
    assert next_batch(queue, 1.0).tickets == tickets[2:]
    assert next_batch(queue, 1.0) is None


async def test_models_take_turns_however_much_one_of_them_asks():
    queue = WorkerQueue(BatchLimits(requests=2, bytes=1000))
    fill(queue, "aaaaaab")
    turns = []
    while (batch := next_batch(queue, 0.0)) is not None:
        turns.append(batch.model * len(batch.tickets))
        queue.finish(batch.number, 0.0, 0.01)
    assert turns == ["aa", "b", "aa", "aa"]


async def test_a_batch_stops_at_the_limit_of_bytes_but_a_large_request_goes_alone():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=10))
    for size in (20, 6, 4, 1):
        queue.put(ticket("a", b"x" * size))
    sizes = []
    while (batch := next_batch(queue, 0.0)) is not None:
        sizes.append([len(one.ask.body) for one in batch.tickets])
        queue.finish(batch.number, 0.0, 0.01)
    assert sizes == [[20], [6, 4], [1]]


async def test_a_batch_stops_at_the_limit_of_rows_but_a_large_request_goes_alone():
    queue = WorkerQueue(BatchLimits(rows=100))
    line, lists = b"1,2,3,4,5,6,7,8\n", b"[1,2,3,4,5,6,7,8],"
    asked = [
        line * 200,
        line * 60,
        b"[" + lists * 39 + b"[1]]",
        line * 30,
        b"1,2\n",
        b"\x93" * 3000,
    ]
    tickets = [ticket("a", body) for body in asked]
    for one in tickets:
        queue.put(one)
    batches = []
    while (batch := next_batch(queue, 0.0)) is not None:
        batches.append([tickets.index(one) for one in batch.tickets])
        queue.finish(batch.number, 0.0, 0.01)
    assert batches == [[0], [1], [2, 3, 4, 5]]
    assert queue.waiting_count == 0


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"", 1),
        (b"1,2\n3,4\n", 2),
        (b'{"instances": [[1, 2], [3, 4], [5, 6]]}', 4),
        (b'{"instances": [{"x": 1}, {"x": 2}]}', 3),
        (b'{"x": 1}\n{"x": 2}\n{"x": 3}\n', 3),
        (b"\x93NUMPY\x01", 1),
    ],
)
def test_rows_are_counted_as_what_parts_them_rather_too_many_than_too_few(body, rows):
    assert count_rows(body) == rows


async def test_a_request_nobody_waits_for_is_not_sent():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    first, second = fill(queue, "aa")
    queue.discard(first)
    assert next_batch(queue, 0.0).tickets == [second]
    assert queue.waiting_count == 0


async def test_what_had_not_begun_when_the_worker_ended_is_told_from_what_had():
    queue = WorkerQueue(BatchLimits(requests=1, bytes=1000))
    tickets = fill(queue, "abcc")
    next_batch(queue, 0.0)
    next_batch(queue, 0.0)
    started, waiting = queue.abandon()
    assert started == tickets[:1]
    assert waiting == tickets[1:]
    assert (queue.waiting_count, queue.sent_count) == (0, 0)


async def test_an_answer_to_a_batch_it_was_not_at_is_noticed():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    fill(queue, "ab")
    next_batch(queue, 0.0)
    second = next_batch(queue, 0.0)
    assert queue.finish(second.number, 1.0) is None


def owned(model: str, tenant: str, queued_at: float = 0.0) -> Ticket:
    future = asyncio.get_running_loop().create_future()
    return Ticket(model, Ask(b"x"), future, queued_at, tenant)


def work(queue: WorkerQueue, turns: int, seconds: float) -> list[str]:
    """The models of the next batches, of which each takes so long."""
    models = []
    for _ in range(turns):
        batch = next_batch(queue, 0.0)
        assert queue.finish(batch.number, 0.0, seconds * len(batch.tickets)) is batch
        models.append(batch.model)
    return models


async def test_a_tenant_of_many_models_gets_no_more_turns_than_one_of_a_single_model():
    queue = WorkerQueue(BatchLimits(requests=1, bytes=1000))
    for model in "abcd" * 5:
        queue.put(owned(model, "many"))
    for _ in range(20):
        queue.put(owned("e", "single"))
    models = work(queue, 20, 0.01)
    assert 9 <= models.count("e") <= 11
    assert set(models) == set("abcde")


async def test_turns_are_shared_by_weight():
    queue = WorkerQueue(BatchLimits(requests=1, bytes=1000), Pacer({"heavy": 3.0}))
    for tenant in ("heavy", "light"):
        for _ in range(40):
            queue.put(owned(tenant, tenant))
    assert 28 <= work(queue, 40, 0.01).count("heavy") <= 32


async def test_who_asks_little_waits_for_short_batches_only_while_others_flood():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    queue.put(owned("flood", "flood"))
    work(queue, 1, 0.001)  # a millisecond a request
    for _ in range(100):
        queue.put(owned("flood", "flood"))
    alone = next_batch(queue, 0.0)
    assert len(alone.tickets) == 64
    queue.finish(alone.number, 0.0, 0.064)
    queue.put(owned("quiet", "quiet"))
    batches = [next_batch(queue, 0.0) for _ in range(2)]
    assert {batch.model: len(batch.tickets) for batch in batches} == {"flood": 1, "quiet": 1}


async def test_nothing_is_handed_over_behind_a_long_batch_while_several_ask():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    queue.put(owned("slow", "slow"))
    work(queue, 1, 0.5)
    for model in ("slow", "slow", "quick"):
        queue.put(owned(model, model))
    while "slow" not in (models := handed_over(queue)):
        assert models
    queue.put(owned("quick", "quick"))
    assert next_batch(queue, 0.0) is None


async def test_what_is_too_late_or_unwanted_is_not_started():
    queue = WorkerQueue(BatchLimits(requests=64, bytes=1000))
    late, gone, wanted = fill(queue, "aab")
    late.outcome.set_exception(TimeoutError())
    late.outcome.exception()
    gone.outcome.cancel()
    assert next_batch(queue, 0.0).tickets == [wanted]
    assert next_batch(queue, 0.0) is None
    assert queue.waiting_count == 0


def queue_with_a_flood() -> tuple[WorkerQueue, float]:
    """A queue whose tenant `flood` is paced from now on, and now."""
    now = 0.0
    pacer = Pacer({}, busy_limit=0.5, wanted_seconds=lambda: now)  # no moment without
    while pacer.tenant is None:
        now += 0.01
        pacer.took("flood", 40, now)
        for number in range(20):
            pacer.took(f"quiet {number}", 1, now)
    return WorkerQueue(BatchLimits(requests=64, bytes=1000), pacer), now


def handed_over_at(queue: WorkerQueue, now: float) -> Counter[str]:
    """Requests by model, of all that goes until something is held."""
    had: Counter[str] = Counter()
    while batches := queue.next_handover(now):
        for batch in batches:
            had[batch.model] += len(batch.tickets)
            queue.finish(batch.number, now)
    return had


async def test_what_a_pace_holds_waits_in_its_queue_and_all_others_pass():
    queue, now = queue_with_a_flood()
    for _ in range(100):
        queue.put(owned("flood", "flood", queued_at=now))
    queue.put(owned("quiet", "quiet", queued_at=now))
    first = handed_over_at(queue, now)
    assert first["quiet"] == 1
    assert 1 <= first["flood"] < 100
    queue.put(owned("flood", "flood", queued_at=now))
    queue.put(owned("quiet", "quiet", queued_at=now))
    assert handed_over_at(queue, now) == {"quiet": 1}
    assert now < queue.held_until < now + 0.01
    assert queue.drain_seconds("flood", "flood") > queue.drain_seconds("quiet", "quiet")
    second = handed_over_at(queue, queue.held_until)
    assert second.keys() == {"flood"}
    assert queue.waiting_count == 101 - first["flood"] - second["flood"]


async def test_what_is_held_is_neither_late_nor_a_crowd():
    queue, now = queue_with_a_flood()
    for _ in range(100):
        queue.put(owned("flood", "flood", queued_at=now))
    assert queue.crowded(50) == ["flood"]
    handed_over_at(queue, now + 0.05)
    assert (queue.crowded(50), queue.late_until) == ([], 0.0)


async def test_what_is_held_when_the_worker_ends_had_not_begun():
    queue, now = queue_with_a_flood()
    for _ in range(100):
        queue.put(owned("flood", "flood", queued_at=now))
    handed_over_at(queue, now)
    held = queue.waiting_count
    started, waiting = queue.abandon()
    assert (started, len(waiting), queue.held_until) == ([], held, 0.0)
