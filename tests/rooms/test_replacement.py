"""A worker that replaces another knows what it will be asked for, and holds nobody up."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from mme.config import IsolationConfig, WorkerConfig
from mme.metrics import Metrics
from mme.workers.pool import LoadedModel, LoadRequest, Pool
from mme.workers.preload import Preload
from mme.workers.process import WorkerProcess
from mme.workers.spec import WorkerSpec
from tests.eventually import eventually
from tests.models import booster
from tests.scripts import ECHO, write_script

pytestmark = pytest.mark.timeout(60)
SLOW = """
import threading
from pathlib import Path

def model_fn(model_dir):
    while not Path(model_dir, "go").exists():
        threading.Event().wait(0.01)

def transform_fn(model, data, content_type, accept):
    return "[1]"
"""


@asynccontextmanager
async def running_pool(workers: int, **settings: Any) -> AsyncIterator[Pool]:
    pool = Pool(
        WorkerConfig(heartbeat_seconds=0.1, **settings),
        workers=workers,
        threads=1,
        metrics=Metrics("e", "v"),
        on_lost=lambda *_: None,
    )
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


async def load(pool: Pool, directory: Path, size_bytes: int = 1) -> LoadedModel:
    name = directory.name
    wanted = LoadRequest(model=name, name=name, directory=str(directory), size_bytes=size_bytes)
    return await pool.load(wanted)


def xgboost_at(root: Path, seed: int) -> Path:
    directory = root / f"booster-{seed}"
    directory.mkdir()
    for name, data in booster(seed).members.items():
        (directory / name).write_bytes(data)
    return directory


def imports_xgboost(pid: int) -> bool:
    return any("libxgboost" in each.path for each in psutil.Process(pid).memory_maps())


def worker(pool: Pool, index: int) -> dict[str, Any]:
    return pool.describe()[index]


async def replaced(pool: Pool, index: int, pid: int) -> int:
    """The process that stands where `pid` stood."""
    await eventually(lambda: worker(pool, index)["pid"] not in {None, pid})
    return int(worker(pool, index)["pid"])


async def test_a_replacement_imports_what_is_in_use_before_it_is_ready_and_others_load_meanwhile(
    tmp_path: Path,
) -> None:
    async with running_pool(workers=2) as pool:
        first, second = [await load(pool, xgboost_at(tmp_path, seed)) for seed in (1, 2)]
        assert {first.residency.slot.index, second.residency.slot.index} == {0, 1}
        pid, wanted = worker(pool, 0)["pid"], xgboost_at(tmp_path, 3)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: worker(pool, 0)["state"] == "starting")
        third = await load(pool, wanted)
        assert third.residency.slot.index == 1
        assert worker(pool, 0)["state"] == "starting"  # nobody waited for it
        fresh = await replaced(pool, 0, pid)
        assert '"preload":["xgboost"]' in psutil.Process(fresh).cmdline()[-1]
        assert imports_xgboost(fresh)
        fourth = await load(pool, xgboost_at(tmp_path, 4))
        assert fourth.residency.slot.index == 0


async def test_the_only_worker_is_replaced_by_one_that_knows_what_the_dead_one_had(
    tmp_path: Path,
) -> None:
    async with running_pool(workers=1) as pool:
        await load(pool, xgboost_at(tmp_path, 1))
        await load(pool, write_script(tmp_path / "script", ECHO))
        pid = worker(pool, 0)["pid"]
        os.kill(pid, signal.SIGKILL)
        assert imports_xgboost(await replaced(pool, 0, pid))


def spec(framework: str = "torch") -> WorkerSpec:
    return WorkerSpec.of(0, WorkerConfig(preload=(framework,)), 1, None)


async def test_a_worker_that_was_long_at_importing_is_not_taken_for_silent() -> None:
    began = time.monotonic()
    process = WorkerProcess(spec("xgboost"), lambda _: None, lambda _: None)
    await process.start()
    half_way = (began + time.monotonic()) / 2
    told = process.last_sign_at
    await process.end("the test is over")
    assert told > half_way


def test_what_no_worker_got_ready_with_is_left_out_the_next_time_and_tried_again_after_it() -> None:
    preload = Preload(spec(), lambda: {"xgboost", "script"})
    found = [preload.next_spec().preload, preload.next_spec().preload]
    preload.succeeded()
    assert [*found, preload.next_spec().preload] == [
        ("torch", "xgboost"), ("torch",), ("torch", "xgboost"),
    ]  # fmt: skip


async def test_a_worker_that_is_long_at_one_load_gets_no_other_while_there_is_one_free(
    tmp_path: Path,
) -> None:
    open_to_files = IsolationConfig(mode="off")  # the script sees what comes later, too
    async with running_pool(workers=2, isolation=open_to_files) as pool:
        large = await load(pool, xgboost_at(tmp_path, 1))
        slow = write_script(tmp_path / "slow", SLOW)
        loading = asyncio.create_task(load(pool, slow))
        busy = 1 - large.residency.slot.index
        await eventually(lambda: worker(pool, busy)["loading"] == "slow")
        slot = pool.peers(large.residency.slot)[busy]
        await eventually(lambda: slot.loading_seconds > 0.6)
        third = await asyncio.wait_for(load(pool, xgboost_at(tmp_path, 2)), 20)
        assert third.residency.slot is large.residency.slot
        (slow / "go").touch()
        assert (await loading).residency.slot.index == busy
