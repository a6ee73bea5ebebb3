"""Long lists, a little at a time."""

from __future__ import annotations

import asyncio

import pytest

from mme.cache.sliced import sliced


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25])
async def test_all_come_in_order_and_others_have_their_turns_between(count):
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    found, seen = [], []
    async for some in sliced(range(count), 10):
        assert len(some) <= 10
        found += some
        seen.append(turns)
    task.cancel()
    assert found == list(range(count))
    assert len(set(seen)) == len(seen) == -(-count // 10)
