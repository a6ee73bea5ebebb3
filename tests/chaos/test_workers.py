"""Models that do their worst to their worker: who asked is told, nobody else loses anything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mme import Engine
from mme.domain import ModelKey
from mme.errors import InvocationTimeout, LoadFailed, MmeError, PredictionFailed, WorkerLost
from tests.chaos.control_group import can_be_made, make_group
from tests.chaos.rogue import rogue
from tests.engines import ask, assert_ledger_is_exact, drop, invocation, quiet, running_engine
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(60)
CAUSES = {
    "exits": "exited with status 3",
    "segfaults": "killed by SIGSEGV",
    "aborts": "killed by SIGABRT",
    "is killed": "killed by SIGKILL",  # as by the kernel, when memory ends
    "hangs": "ran for more than",
    "spins": "ran for more than",
    "forks": "exited with status 7",
    "closes its pipe": "closed its channel|exited with status [01]",
    "writes rubbish": "closed its channel|exited with status [01]",
    "opens too many": "descriptors were used up",
    "hoards memory": "took all the memory that it may",
}
GROUP_BYTES = 64 * 1024**2
# Where no control group can be made here, all that is left to show is what its kill looks like.
WAY_TO_END_MEMORY = "control group" if can_be_made("memory") else "SIGKILL from outside"
HASTY = {"heartbeat_seconds": 0.1, "invocation_seconds": 1.0, "grace_seconds": 0.1}


@contextlib.asynccontextmanager
async def engine_with_a_neighbour(root: Path, **settings: Any) -> AsyncIterator[Engine]:
    """One worker that holds a model in use; it answers afterwards too, and nothing is left over."""
    drop(root / "models", "a", rogue(answer=2.5))
    others = set(family())  # servers that the whole session shares
    async with running_engine(root, failure_seconds=30, **settings) as engine:
        await neighbour_answers(engine)
        yield engine
        await neighbour_answers(engine)
        await quiet(engine)
        assert_ledger_is_exact(engine)
        assert set(family()) - others == {worker(engine)["pid"]}
        assert len(list((root / "cache/workers").iterdir())) == 1
    assert list((root / "cache/workers").iterdir()) == []


def family() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


def members(group: int) -> list[int]:
    """Processes of a group, those included whose parent has gone; the dead are none."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


async def neighbour_answers(engine: Engine) -> None:
    assert await ask(engine, "a", body=b"") == 2.5


def worker(engine: Engine) -> dict[str, Any]:
    return engine.state()["workers"][0]


async def tell(engine: Engine, model: str, fault: str) -> MmeError:
    """Asks `model` to do `fault`; what the client is told."""
    with pytest.raises(MmeError) as told:
        await engine.invoke(invocation(model, fault.encode(), seconds=20))
    return told.value


def why_lost(engine: Engine, model: str) -> str:
    """What `/state` says of why a model went."""
    lost = (event for event in engine.state()["events"] if event["kind"] == "lost")
    return next(event["reason"] for event in lost if event["model"] == model)


@pytest.mark.parametrize("fault", [fault for fault in CAUSES if fault != "hoards memory"])
async def test_a_model_that_ends_its_worker_costs_its_own_request_only(
    tmp_path: Path, fault: str
) -> None:
    drop(tmp_path / "models", "rogue", rogue())
    async with engine_with_a_neighbour(tmp_path, **HASTY) as engine:
        told = await tell(engine, "rogue", fault)
        assert isinstance(told, WorkerLost | InvocationTimeout), told
        await neighbour_answers(engine)
        assert why_lost(engine, "rogue") == why_lost(engine, "a")
        assert re.search(CAUSES[fault], why_lost(engine, "rogue"))


@pytest.mark.parametrize(
    ("fault", "settings"),
    [
        ("exits", {}),
        ("segfaults", {}),
        ("aborts", {}),
        ("is killed", {}),
        ("hangs", HASTY),
        ("spins", HASTY),
        ("forks", {}),
        ("closes its pipe", {}),
        ("writes rubbish", {}),
        ("opens too many", {"heartbeat_seconds": 30.0}),  # in which it would not be replaced
        ("hoards memory", {"worker_memory": 512 * 1024**2}),
    ],
)
async def test_a_model_that_ends_three_workers_is_quarantined_with_the_cause(
    tmp_path: Path, fault: str, settings: dict[str, float]
) -> None:
    drop(tmp_path / "models", "rogue", rogue())
    async with engine_with_a_neighbour(tmp_path, **settings) as engine:
        for _ in range(3):
            told = await tell(engine, "rogue", fault)
            assert isinstance(told, WorkerLost | InvocationTimeout), told
            await neighbour_answers(engine)
        restarts = worker(engine)["restarts"]
        told = await tell(engine, "rogue", fault)
        assert isinstance(told, LoadFailed)
        assert re.search(
            f"3 times and is quarantined; the last time: .*({CAUSES[fault]})", str(told)
        )
        assert worker(engine)["restarts"] == restarts


async def test_a_worker_that_says_nothing_is_replaced_and_costs_what_ran_in_it_only(
    tmp_path: Path,
) -> None:
    drop(tmp_path / "models", "rogue", rogue())
    signs = {"heartbeat_seconds": 0.1, "silence_seconds": 2.0}
    async with engine_with_a_neighbour(tmp_path, **signs) as engine:
        silent = worker(engine)["pid"]
        asking = asyncio.create_task(tell(engine, "rogue", "hangs"))
        await eventually(lambda: worker(engine)["running"])
        os.kill(silent, signal.SIGSTOP)
        assert isinstance(await asking, WorkerLost)
        await neighbour_answers(engine)
        assert worker(engine)["pid"] != silent
        assert await ask(engine, "rogue", body=b"") == 1.0


async def test_a_fork_bomb_goes_with_its_worker(tmp_path: Path) -> None:
    drop(tmp_path / "models", "rogue", rogue())
    async with engine_with_a_neighbour(tmp_path, **HASTY) as engine:
        group = worker(engine)["pid"]
        asking = asyncio.create_task(tell(engine, "rogue", "bombs"))
        await eventually(lambda: len(members(group)) > 100)
        assert isinstance(await asking, WorkerLost | InvocationTimeout)
        await neighbour_answers(engine)
        await eventually(lambda: not members(group))


@pytest.mark.parametrize("fault", ["exits", "forks"])
async def test_a_model_that_ends_workers_while_it_loads_is_remembered_with_the_cause(
    tmp_path: Path, fault: str
) -> None:
    drop(tmp_path / "models", "rogue", rogue(at_load=fault))
    async with engine_with_a_neighbour(tmp_path, **HASTY) as engine:
        told = [await tell(engine, "rogue", ""), await tell(engine, "rogue", "")]
        for error in told:
            assert re.search(CAUSES[fault], str(error)), error
        [failure] = engine.state()["failures"]
        assert failure["times"] == 1  # the second was told from memory


async def test_a_model_that_hangs_while_it_loads_is_given_up_and_its_neighbour_goes_on_answering(
    tmp_path: Path,
) -> None:
    drop(tmp_path / "models", "rogue", rogue(at_load="hangs"))
    async with engine_with_a_neighbour(tmp_path, load_seconds=4) as engine:
        loading = asyncio.create_task(tell(engine, "rogue", ""))
        await eventually(lambda: worker(engine)["loading"])
        await neighbour_answers(engine)
        assert not loading.done()
        assert "4 s" in str(await loading)
        await eventually(lambda: worker(engine)["restarts"])


async def test_a_model_that_takes_all_memory_it_may_is_refused_more_and_its_worker_lives(
    tmp_path: Path,
) -> None:
    drop(tmp_path / "models", "rogue", rogue())
    async with engine_with_a_neighbour(tmp_path, worker_memory=768 * 1024**2) as engine:
        told = await tell(engine, "rogue", "leaks")
        assert isinstance(told, PredictionFailed)
        assert "out of memory" in str(told)
        assert worker(engine)["restarts"] == 0


async def test_a_model_that_hoards_slowly_has_its_worker_replaced_and_costs_no_request(
    tmp_path: Path,
) -> None:
    drop(tmp_path / "models", "rogue", rogue())
    settings = {"recycle": 8 * 1024**2, "recycle_seconds": 1.0, "heartbeat_seconds": 0.1}
    async with engine_with_a_neighbour(tmp_path, **settings) as engine:
        replaced = {worker(engine)["pid"]}
        for _ in range(2):  # once and again, for it does so for ever
            while len(workers := engine.state()["workers"]) > 1 or workers[0]["pid"] in replaced:
                assert await ask(engine, "rogue", body=b"keeps a little") == 1.0
                await neighbour_answers(engine)
                await asyncio.sleep(0.02)  # slowly, or much is kept while the next worker starts
            replaced.add(worker(engine)["pid"])
        assert worker(engine)["restarts"] == 0
        assert {event["kind"] for event in engine.state()["events"]} == {"loaded", "moved"}


@pytest.mark.parametrize("way", [WAY_TO_END_MEMORY])
async def test_a_worker_that_the_kernel_ends_for_memory_costs_what_ran_in_it_only(
    tmp_path: Path, way: str
) -> None:
    drop(tmp_path / "models", "rogue", rogue())
    async with engine_with_a_neighbour(tmp_path) as engine:
        pid = worker(engine)["pid"]
        if way == "control group":
            group = make_group("memory")
            assert group is not None
            group.limit(GROUP_BYTES)
            group.add(pid)
            told = await tell(engine, "rogue", "fills memory")
            assert group.kills == 1
            group.remove()
        else:
            filling = asyncio.create_task(tell(engine, "rogue", "hangs"))
            await eventually(lambda: worker(engine)["running"])
            os.kill(pid, signal.SIGKILL)
            told = await filling
        assert isinstance(told, WorkerLost)
        assert "killed by SIGKILL" in str(told)
        assert why_lost(engine, "rogue") == why_lost(engine, "a") == "it was killed by SIGKILL"


@pytest.mark.parametrize("moment", ["idle", "unloading"])
async def test_a_worker_killed_while_nobody_asks_costs_nobody_an_answer(
    tmp_path: Path, moment: str
) -> None:
    async with engine_with_a_neighbour(tmp_path) as engine:
        pid = worker(engine)["pid"]
        os.kill(pid, signal.SIGSTOP)
        unloading = None
        if moment == "unloading":
            unloading = asyncio.create_task(engine._built_in.cache.unload(ModelKey("a")))
            await eventually(lambda: engine.state()["memory"]["leaving_bytes"])
        os.kill(pid, signal.SIGKILL)
        if unloading is not None:
            assert await unloading
        await eventually(lambda: worker(engine)["pid"] not in {pid, None})


async def test_what_a_killed_server_left_of_its_workers_is_removed_by_the_next(
    tmp_path: Path,
) -> None:
    left = tmp_path / "cache/workers/left"
    (left / "tmp/deep").mkdir(parents=True)
    async with engine_with_a_neighbour(tmp_path):
        assert not left.exists()


async def test_models_that_end_their_worker_while_they_load_cost_a_busy_neighbour_no_quarantine(
    tmp_path: Path,
) -> None:
    for number in range(4):
        drop(tmp_path / "models", f"rogue{number}", rogue(at_load="exits", answer=number))
    drop(tmp_path / "models", "busy", rogue(answer=0.5))
    told: list[object] = []
    async with engine_with_a_neighbour(tmp_path, heartbeat_seconds=0.1) as engine:
        is_over = asyncio.Event()

        async def ask_again_and_again() -> None:
            while not is_over.is_set():
                try:
                    told.append(await ask(engine, "busy", body=b"takes a while"))
                except WorkerLost as error:  # nothing else, least of all a quarantine
                    told.append(error)

        async with asyncio.TaskGroup() as group:
            group.create_task(ask_again_and_again())
            for number in range(4):
                await eventually(lambda: 0.5 in told[-2:])
                error = await tell(engine, f"rogue{number}", "")
                assert re.search(CAUSES["exits"], str(error))
            is_over.set()
        assert await ask(engine, "busy", body=b"") == 0.5
        losses = [each for each in told if each != 0.5]
        assert len(losses) <= worker(engine)["restarts"] == 4  # a bad load ends one worker
        failed = {failure["model"] for failure in engine.state()["failures"]}
        assert failed == {f"rogue{number}" for number in range(4)}


async def opens_all(engine: Engine) -> None:
    assert await ask(engine, "rogue", body=b"opens all it may") == 1.0


@pytest.mark.parametrize(
    "heartbeat_seconds", [0.1, 30.0]
)  # replaced in time; or a load comes first
async def test_a_model_that_uses_up_all_descriptors_costs_no_other_model_a_failure(
    tmp_path: Path, heartbeat_seconds: float
) -> None:
    drop(tmp_path / "models", "rogue", rogue())
    for number in range(3):
        drop(tmp_path / "models", f"cold{number}", rogue(answer=number))
    async with engine_with_a_neighbour(tmp_path, heartbeat_seconds=heartbeat_seconds) as engine:
        pid = worker(engine)["pid"]
        await opens_all(engine)
        if heartbeat_seconds < 1:
            await eventually(lambda: [each["pid"] for each in engine.state()["workers"]] != [pid])
        for number in range(3):
            assert await ask(engine, f"cold{number}", body=b"") == number
        await eventually(lambda: len(engine.state()["workers"]) == 1)
        assert worker(engine)["pid"] != pid
        assert engine.state()["failures"] == []
