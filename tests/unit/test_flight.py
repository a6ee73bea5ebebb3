"""Single flight: one call, many waiters, each of whom may leave."""

from __future__ import annotations

import asyncio
import math
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mme.cache.flight import Flight
from mme.errors import Draining, LoadFailed


class Desk:
    """Hands out numbered shares of one call, and takes them back."""

    def __init__(self, left_limit: float = math.inf) -> None:
        self.calls = 0
        self.ended = 0
        self.shared = 0
        self.reclaimed: list[str] = []
        self.go = asyncio.Event()
        self.flight: Flight[str, str, str] = Flight(self.share, self.reclaimed.append, left_limit)

    def share(self, result: str) -> str:
        self.shared += 1
        return f"{result} {self.shared}"

    async def call(self) -> str:
        self.calls += 1
        try:
            await self.go.wait()
        finally:
            self.ended += 1
        return "share"

    async def ask_and_leave(self, key: str) -> None:
        waiter = asyncio.create_task(self.flight.join(key, self.call))
        await settled()
        waiter.cancel()
        await asyncio.wait([waiter])

    async def fail(self) -> str:
        self.calls += 1
        await self.go.wait()
        raise LoadFailed("broken")


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_everyone_waits_for_one_call_and_gets_a_share_of_their_own():
    desk = Desk()
    waiters = [asyncio.create_task(desk.flight.join("a", desk.call)) for _ in range(3)]
    await settled()
    desk.go.set()
    assert sorted([await waiter for waiter in waiters]) == ["share 1", "share 2", "share 3"]
    assert desk.calls == 1
    assert "a" not in desk.flight


async def test_the_call_outlives_the_waiter_who_started_it():
    desk = Desk()
    first = asyncio.create_task(desk.flight.join("a", desk.call))
    await settled()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(desk.flight.join("a", desk.call))
    await settled()
    desk.go.set()
    assert await second == "share 1"
    assert desk.calls == 1


async def test_a_waiter_cancelled_after_its_share_was_made_gives_it_back():
    desk = Desk()
    waiter = asyncio.create_task(desk.flight.join("a", desk.call))
    await settled()
    desk.go.set()
    for _ in range(10):  # steps, until the call has ended; the waiter's own step comes after it
        if "a" not in desk.flight:
            break
        await asyncio.sleep(0)
    waiter.cancel()  # its future is done, but it has not run since
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert desk.reclaimed == ["share 1"]


async def test_every_waiter_gets_the_same_error_and_the_next_call_starts_anew():
    desk = Desk()
    waiters = [asyncio.create_task(desk.flight.join("a", desk.fail)) for _ in range(2)]
    await settled()
    desk.go.set()
    errors = []
    for waiter in waiters:
        with pytest.raises(LoadFailed) as caught:
            await waiter
        errors.append(caught.value)
    assert errors[0] is errors[1]
    assert await desk.flight.join("a", desk.call) == "share 1"


@pytest.mark.parametrize("begun", [True, False])
async def test_closing_tells_waiters_that_the_server_is_leaving(begun: bool):
    desk = Desk()
    waiter = asyncio.create_task(desk.flight.join("a", desk.call))
    if begun:
        await settled()
    else:
        await asyncio.sleep(0)  # the waiter has joined, the call has not run
    await desk.flight.close()
    with pytest.raises(Draining):
        await waiter
    assert desk.flight.keys() == []


async def test_nothing_is_called_after_closing_and_who_asks_is_told_so():
    desk = Desk()
    await desk.flight.close()
    desk.flight.start("a", desk.call)
    with pytest.raises(Draining):
        await desk.flight.join("a", desk.call)
    await settled()
    assert not desk.calls


async def test_of_calls_that_all_have_left_those_left_first_are_given_up_beyond_the_limit():
    desk = Desk(left_limit=2)
    for key in "abcd":
        await desk.ask_and_leave(key)
    await settled()
    assert desk.flight.keys() == ["c", "d"]
    assert (desk.calls, desk.ended) == (4, 2)
    await desk.flight.close()
    assert desk.ended == 4


async def test_a_call_that_someone_waits_for_or_that_has_begun_is_never_given_up():
    desk = Desk(left_limit=1)
    stays = asyncio.create_task(desk.flight.join("waited for", desk.call))
    await desk.ask_and_leave("waited for")
    begun = asyncio.create_task(desk.flight.join("begun", desk.call))
    await settled()
    desk.flight.begin("begun")
    begun.cancel()
    for key in ("again", "b"):
        await desk.ask_and_leave(key)
    returned = asyncio.create_task(desk.flight.join("b", desk.call))
    await settled()
    for key in "cd":
        await desk.ask_and_leave(key)
    assert desk.flight.keys() == ["waited for", "begun", "b", "d"]
    desk.go.set()
    assert {await stays, await returned} == {"share 1", "share 2"}


async def test_who_asks_at_once_for_what_was_given_up_gets_a_call_of_its_own():
    desk = Desk(left_limit=0)
    leaves = asyncio.create_task(desk.flight.join("a", desk.call))
    await settled()
    leaves.cancel()
    await asyncio.sleep(0)  # it has left; the call that is given up has not noticed
    assert (desk.flight.keys(), desk.ended) == ([], 0)
    asks = asyncio.create_task(desk.flight.join("a", desk.call))
    await settled()
    assert (desk.calls, desk.ended) == (2, 1)
    desk.go.set()
    assert await asks == "share 1"


@given(
    steps=some.lists(
        some.tuples(some.sampled_from(["ask", "leave", "begin", "end"]), some.integers(0, 3)),
        max_size=40,
    ),
    limit=some.integers(0, 2),
)
def test_whatever_happens_only_so_many_go_on_that_all_have_left(steps, limit):
    asyncio.run(_play(steps, limit))


class Play:
    """A flight, what waits in it, and what `Flight` must keep of it."""

    def __init__(self, limit: int) -> None:
        self.flight: Flight[str, str, str] = Flight(lambda key: key, lambda _: None, limit)
        self.limit = limit
        self.waiting: dict[str, list[asyncio.Task[str]]] = {key: [] for key in "abcd"}
        self.ends: dict[str, asyncio.Event] = {}
        self.begun: set[str] = set()

    async def call(self, key: str) -> str:
        self.ends[key] = end = asyncio.Event()
        await end.wait()
        return key

    async def ask(self, key: str) -> None:
        asks = self.flight.join(key, partial(self.call, key))
        self.waiting[key].append(asyncio.create_task(asks))

    async def leave(self, key: str) -> None:
        if self.waiting[key]:
            self.waiting[key].pop().cancel()

    async def begin(self, key: str) -> None:
        if key in self.flight:
            self.flight.begin(key)
            self.begun.add(key)

    async def end(self, key: str) -> None:
        if key in self.flight:
            self.ends[key].set()
            waiters = self.waiting[key]
            assert [await waiter for waiter in waiters] == [key] * len(waiters)
            waiters.clear()

    def check(self) -> None:
        running = {*self.flight.keys()}
        self.begun &= running
        waited_for = {key for key, waiters in self.waiting.items() if waiters}
        assert waited_for | self.begun <= running
        assert len(running - waited_for - self.begun) <= self.limit


async def _play(steps: list[tuple[str, int]], limit: int) -> None:
    play = Play(limit)
    for step, number in steps:
        await getattr(play, step)("abcd"[number])
        await settled()
        play.check()
    await play.flight.close()
    assert play.flight.keys() == []
    for waiters in play.waiting.values():
        for waiter in waiters:
            with pytest.raises(Draining):
                await waiter
    flight = play.flight
    assert not any((flight._waiters, flight._left, flight._begun, flight._given_up))
