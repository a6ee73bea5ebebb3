"""Single flight: one call, many waiters, each of whom may leave."""

from __future__ import annotations

import asyncio

import pytest

from mme.cache.flight import Flight
from mme.errors import Draining, LoadFailed


class Desk:
    """Hands out numbered shares of one call, and takes them back."""

    def __init__(self) -> None:
        self.calls = 0
        self.shared = 0
        self.reclaimed: list[str] = []
        self.go = asyncio.Event()
        self.flight: Flight[str, str, str] = Flight(self.share, self.reclaimed.append)

    def share(self, result: str) -> str:
        self.shared += 1
        return f"{result} {self.shared}"

    async def call(self) -> str:
        self.calls += 1
        await self.go.wait()
        return "share"

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
