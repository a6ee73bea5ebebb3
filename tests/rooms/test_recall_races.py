"""What is recalled may be given up, unloaded or lost before its worker has read of it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mme import Engine, ModelKey
from tests.engines import ask, cache_of, drop
from tests.eventually import eventually
from tests.recalls import evict, lost, outcomes, push_out, recalling, residents_of, right, sleeper

KEY = ModelKey("0")


def worker(engine: Engine) -> dict[str, object]:
    return engine.state()["workers"][0]


def kept_files(root: Path) -> set[Path]:
    return set((root / "cache/workers").glob("*/tmp/**/forest-*"))


async def recall_and_give_up(engine: Engine) -> None:
    """Has a client go as soon as its model was recalled."""
    asking = asyncio.create_task(right(engine, 0))
    await eventually(lambda: residents_of(engine).current(KEY))
    asking.cancel()
    await asyncio.wait([asking])


@pytest.mark.parametrize(("kept", "way"), [("kept", "unloaded"), ("lost", "evicted")])
async def test_a_recall_given_up_may_leave_again_before_its_worker_has_read_of_it(
    tmp_path, kept, way
):
    drop(tmp_path / "models", "busy", sleeper())
    async with recalling(tmp_path, 1) as engine:
        await ask(engine, "busy", body=b"0")
        await evict(engine, KEY)
        if kept == "lost":
            kept_files(tmp_path).pop().unlink()
        busy = asyncio.create_task(ask(engine, "busy", body=b"0.3"))
        await eventually(lambda: worker(engine)["running"])
        await recall_and_give_up(engine)
        if way == "unloaded":
            assert await cache_of(engine).unload(KEY)
        else:
            await evict(engine, KEY)
        assert await busy == 0.3
        assert worker(engine)["models"] == 1
        assert await right(engine, 0)
        assert worker(engine)["models"] == 2
        assert worker(engine)["restarts"] == 0


async def test_all_who_wait_for_a_model_whose_file_is_gone_or_cut_are_answered(tmp_path):
    async with recalling(tmp_path, 2) as engine:
        seen: set[Path] = set()
        for turn in range(2):
            await evict(engine)
            gone, cut = kept_files(tmp_path) - seen
            seen.add(cut)
            gone.unlink()
            cut.write_bytes(cut.read_bytes()[:-1])
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(right(engine, n % 2)) for n in range(20)]
            assert all(task.result() for task in asked)
            assert sorted(lost(engine)) == sorted("01" * (turn + 1))
            assert outcomes(engine) == (2 * turn + 4, 2 * turn + 2)
        await evict(engine)
        assert await right(engine, 0)
        assert await right(engine, 1)
        assert outcomes(engine) == (6, 6)
        assert worker(engine)["restarts"] == 0


async def test_one_that_is_still_leaving_is_waited_for_unless_that_may_take_long(tmp_path):
    drop(tmp_path / "models", "slow", sleeper(load_seconds=0.3))
    async with recalling(tmp_path, 2) as engine:
        os.kill(worker(engine)["pid"], signal.SIGSTOP)
        await eventually(lambda: is_stopped(worker(engine)["pid"]))
        push_out(engine, KEY)
        asking = asyncio.create_task(right(engine, 0))
        await eventually(lambda: KEY in cache_of(engine).loading)
        os.kill(worker(engine)["pid"], signal.SIGCONT)
        assert await asking
        assert outcomes(engine) == (2, 1)
        slow = asyncio.create_task(ask(engine, "slow", body=b"0"))
        await eventually(lambda: worker(engine)["loading"])
        push_out(engine, KEY)  # and its worker reads of it when it has loaded the other
        assert await right(engine, 0)
        await slow
        assert outcomes(engine) == (4, 1)
        assert lost(engine) == []


def is_stopped(pid):
    """Whether all its threads are, which a signal's sender does not wait for."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)
