"""Turns and places that no caller can have all of."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.errors import Overloaded, PayloadTimeout
from mme.front.fair_turns import FairTurns
from mme.front.shares import Shares
from tests.eventually import eventually


class Messages:
    """Messages that are received in turns, until they are ended."""

    def __init__(self, at_once: int, seconds: float = 60, fair_seconds: float = 60) -> None:
        self.turns = FairTurns(at_once, seconds, fair_seconds)
        self.now: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._ends: list[tuple[str, asyncio.Event]] = []

    async def begin(self, *callers: str) -> None:
        for caller in callers:
            end = asyncio.Event()
            self._ends.append((caller, end))
            self.tasks.append(asyncio.create_task(self._receive(caller, end), name=caller))
            await asyncio.sleep(0)

    async def end(self, caller: str) -> None:
        """The oldest of that caller's; returns once others have had the chance to begin."""
        found = next(each for each in self._ends if each[0] == caller)
        self._ends.remove(found)
        found[1].set()
        for _ in range(5):
            await asyncio.sleep(0)

    async def end_all(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        for each in ("one", "two"):  # nothing is held any more, and nobody waits
            async with self.turns.take(each):
                pass
        assert not self.turns._turns
        assert not self.turns._waiting

    async def _receive(self, caller: str, end: asyncio.Event) -> None:
        async with self.turns.take(caller):
            self.now.append(caller)
            try:
                await end.wait()
            finally:
                self.now.remove(caller)


async def test_who_has_fewest_is_next_and_equals_take_it_in_rotation() -> None:
    messages = Messages(2)
    await messages.begin("many", "many", "many", "many", "few", "other")
    assert messages.now == ["many", "many"]
    await messages.end("many")
    assert messages.now == ["many", "few"]
    await messages.end("few")
    assert messages.now == ["many", "other"]
    await messages.begin("few")
    await messages.end("other")
    assert messages.now == ["many", "few"]
    await messages.end("many")
    assert sorted(messages.now) == ["few", "many"]
    await messages.end_all()


async def test_equals_with_none_take_the_only_turn_in_rotation() -> None:
    messages = Messages(1)
    await messages.begin("a", "a", "a", "b", "c")
    for caller in ("a", "a", "b", "c", "a"):
        assert messages.now == [caller]
        await messages.end(caller)
    await messages.end_all()


async def test_who_has_all_loses_the_oldest_to_who_has_none() -> None:
    messages = Messages(2, fair_seconds=0.01)
    await messages.begin("slow", "slow", "slow")
    first = messages.tasks[0]
    await messages.begin("other")
    await eventually(lambda: "other" in messages.now)
    with pytest.raises(Overloaded):
        await first
    assert messages.now == ["slow", "other"]
    await messages.end_all()


async def test_who_is_slow_keeps_its_turn_while_only_who_has_as_many_waits() -> None:
    messages = Messages(3, fair_seconds=0.001)
    await messages.begin("a", "a", "b")
    await messages.begin("b", "a")  # to give it one would only turn it round
    await asyncio.sleep(0.05)
    assert messages.now == ["a", "a", "b"]
    await messages.end_all()


async def test_who_waits_or_receives_too_long_is_told_so() -> None:
    messages = Messages(1, seconds=0.05)
    await messages.begin("a")
    messages.turns._seconds = 0.01
    await messages.begin("a")
    with pytest.raises(Overloaded):
        await messages.tasks[1]
    with pytest.raises(PayloadTimeout):
        await messages.tasks[0]
    await messages.end_all()


async def test_a_turn_that_came_just_when_its_waiter_left_is_the_next_ones() -> None:
    messages = Messages(1)
    await messages.begin("a", "b", "c")
    messages._ends[0][1].set()
    for _ in range(5):
        if messages.turns._held["b"]:
            break
        await asyncio.sleep(0)
    assert messages.now == []  # it has its turn, and does not know it yet
    messages.tasks[1].cancel()
    await eventually(lambda: messages.now == ["c"])
    await messages.end_all()


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 20))
def test_one_caller_has_half_of_the_places_and_another_always_finds_one(asked, limit) -> None:
    places, taken = Shares(limit, "try again"), {"a": 0, "b": 0, "c": 0}
    for caller in asked:
        try:
            places.hold(1, caller)
        except Overloaded:
            assert taken[caller] >= limit - sum(taken.values())
        else:
            taken[caller] += 1
        assert sum(taken.values()) <= limit
        assert taken[caller] <= (limit + 1) // 2
    for caller, count in taken.items():
        for _ in range(count):
            places.drop(1, caller)
    for _ in range((limit + 1) // 2):
        places.hold(1, "d")
