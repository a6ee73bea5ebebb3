"""Deadlines that cost nothing until they come."""

from __future__ import annotations

import asyncio

import pytest

from mme.workers.deadlines import Deadlines


def future():
    return asyncio.get_running_loop().create_future()


async def test_who_waits_past_a_deadline_is_told_and_never_early():
    deadlines, loop, late = Deadlines(), asyncio.get_running_loop(), future()
    deadline = loop.time() + 0.06
    deadlines.until(deadline).add(late)
    with pytest.raises(TimeoutError):
        await late
    assert loop.time() + 0.001 >= deadline
    assert deadlines._groups == {}


async def test_a_deadline_that_has_passed_comes_at_once():
    deadlines, late = Deadlines(), future()
    deadlines.until(asyncio.get_running_loop().time() - 5).add(late)
    with pytest.raises(TimeoutError):
        await late


async def test_who_was_answered_or_went_is_left_alone():
    deadlines, loop = Deadlines(), asyncio.get_running_loop()
    deadline = loop.time() + 0.02
    done, gone, late = future(), future(), future()
    done.set_result(1)
    waiting = deadlines.until(deadline)
    for each in (done, gone, late):
        waiting.add(each)
    waiting.discard(gone)
    with pytest.raises(TimeoutError):
        await late
    assert done.result() == 1
    assert not gone.done()


async def test_nothing_is_late_after_the_end():
    deadlines, waits = Deadlines(), future()
    deadlines.until(asyncio.get_running_loop().time()).add(waits)
    deadlines.close()
    other = Deadlines()
    later = future()
    other.until(asyncio.get_running_loop().time() + 0.05).add(later)
    with pytest.raises(TimeoutError):
        await later
    assert not waits.done()
