"""Turns for loads: bounded, in order, those that someone waits for first."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.cache.turns import Turns
from tests.eventually import eventually


class Loads:
    """Loads that take their turn, note it, and end when told."""

    def __init__(self, count: int) -> None:
        self.while_late: int | None = None
        self.turns: Turns[str] = Turns(count, while_late=lambda: self.while_late)
        self.began: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, key: str, *, ahead: bool = False) -> None:
        self._ends[key] = asyncio.Event()
        self._tasks[key] = asyncio.create_task(self._load(key, ahead))
        await self._settle()

    async def end(self, key: str) -> None:
        self._ends[key].set()
        await self._tasks[key]
        await self._settle()

    async def cancel(self, key: str) -> None:
        self._tasks[key].cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._tasks[key]
        await self._settle()

    def alive(self) -> list[str]:
        return [key for key, task in self._tasks.items() if not task.done()]

    async def end_all(self) -> None:
        for end in self._ends.values():
            end.set()
        await asyncio.wait(self._tasks.values())

    async def _load(self, key: str, ahead: bool) -> None:
        async with self.turns.turn(key, ahead=lambda: ahead):
            self.began.append(key)
            await self._ends[key].wait()

    @staticmethod
    async def _settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_who_is_waited_for_comes_before_who_is_loaded_ahead() -> None:
    loads = Loads(1)
    await loads.start("first")
    await loads.start("ahead", ahead=True)
    await loads.start("live")
    await loads.end("first")
    assert loads.began == ["first", "live"]
    await loads.end("live")
    assert loads.began == ["first", "live", "ahead"]
    await loads.end_all()


async def test_a_load_ahead_that_a_request_joins_is_raised() -> None:
    loads = Loads(1)
    await loads.start("first")
    for key in ("ahead 1", "ahead 2"):
        await loads.start(key, ahead=True)
    loads.turns.hurry("ahead 2")
    loads.turns.hurry("nobody")
    await loads.start("live")
    await loads.end("first")
    await loads.end("ahead 2")
    assert loads.began == ["first", "ahead 2", "live"]
    await loads.end_all()


async def test_while_predictions_are_late_fewer_loads_begin_at_once() -> None:
    loads = Loads(3)
    loads.while_late = 1
    for key in ("first", "second", "third"):
        await loads.start(key)
    assert loads.began == ["first"]
    await loads.end("first")
    assert loads.began == ["first", "second"]
    loads.while_late = None  # seen at the next occasion
    await loads.start("fourth")
    assert {*loads.began} == {"first", "second", "third", "fourth"}
    await loads.end_all()


async def test_one_load_after_the_other_begins_however_late_predictions_stay() -> None:
    loads = Loads(3)
    loads.while_late = 0
    for key in ("first", "second", "third"):
        await loads.start(key)
    await eventually(lambda: len(loads.began) == 3)
    assert loads.began == ["first", "second", "third"]
    await loads.end_all()


async def test_one_key_may_wait_twice() -> None:
    turns: Turns[str] = Turns(1)
    async with turns.turn("first"):
        waiting = [asyncio.create_task(_take(turns, "twice", ahead)) for ahead in (True, False)]
        await asyncio.sleep(0)
        turns.hurry("twice")
    async with asyncio.timeout(1):
        await asyncio.wait(waiting)


async def _take(turns: Turns[str], key: str, ahead: bool) -> None:
    async with turns.turn(key, ahead=lambda: ahead):
        await asyncio.sleep(0)


async def test_one_that_is_cancelled_passes_its_turn_on() -> None:
    loads = Loads(1)
    for key in ("first", "second", "third"):
        await loads.start(key)
    await loads.cancel("second")
    await loads.cancel("first")
    assert loads.began == ["first", "third"]
    await loads.end_all()


async def test_one_that_pauses_lets_others_have_its_turn_and_waits_for_the_next() -> None:
    turns: Turns[str] = Turns(1)
    events: list[str] = []

    async def broken() -> None:
        async with turns.turn("broken") as pause:
            await pause(0.01)
            events.append("again")

    pausing = asyncio.create_task(broken())
    await asyncio.sleep(0)
    async with turns.turn("sound"):
        await asyncio.sleep(0.05)  # longer than the pause
        events.append("sound")
    await pausing
    assert events == ["sound", "again"]
    async with turns.turn("next"):
        pass


async def test_one_cancelled_while_it_pauses_has_no_turn_to_pass_on() -> None:
    turns: Turns[str] = Turns(1)

    async def broken() -> None:
        async with turns.turn("broken") as pause:
            await pause(60)

    pausing = asyncio.create_task(broken())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    async with turns.turn("sound"):
        pausing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pausing
        waiting = asyncio.create_task(turns.turn("next").__aenter__())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_one_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    turns: Turns[str] = Turns(1)
    async with asyncio.timeout(1):
        async with turns.turn("first"):
            waiting = asyncio.create_task(turns.turn("second").__aenter__())
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with turns.turn("third"):
            pass


@given(
    count=st.integers(1, 3),
    steps=st.lists(st.tuples(st.sampled_from(["live", "ahead", "hurry", "end", "cancel"]),
                             st.integers(0, 30)), max_size=30),
)  # fmt: skip
def test_turns_are_never_more_than_the_count_and_never_lost(count, steps) -> None:
    asyncio.run(_play(count, steps))


async def _play(count: int, steps: list[tuple[str, int]]) -> None:
    loads = Loads(count)
    for number, (step, pick) in enumerate(steps):
        if step in ("live", "ahead"):
            await loads.start(f"{number}", ahead=step == "ahead")
        elif alive := loads.alive():
            await _act(loads, step, alive[pick % len(alive)])
        alive = loads.alive()
        assert sum(key in loads.began for key in alive) == min(count, len(alive))
    await loads.start("last")
    await loads.end_all()
    assert loads.turns._free == count


async def _act(loads: Loads, step: str, key: str) -> None:
    if step == "hurry":
        loads.turns.hurry(key)
    elif step == "cancel":
        await loads.cancel(key)
    elif key in loads.began:
        await loads.end(key)
