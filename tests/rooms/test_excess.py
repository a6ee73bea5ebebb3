"""What a worker holds beyond what its models are charged is seen; a healthy one holds nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mme.config import WorkerConfig
from mme.metrics import Metrics
from mme.workers.pool import LoadRequest, Pool
from mme.workers.protocol import Answered, Ask
from mme.workers.slot import Residency
from tests.engines import ask, drop, quiet, running_engine
from tests.eventually import eventually
from tests.models import CSV, booster
from tests.scripts import write_script

pytestmark = pytest.mark.timeout(60)
MEGABYTE = 1024**2
HOARD_BYTES = 24 * MEGABYTE
SLACK_BYTES = 3 * MEGABYTE
SCRIPT = f"""
from pathlib import Path
import gc, mmap, time

hoard = []

def model_fn(model_dir):
    return Path(model_dir)

def keep(path):
    hoard.append(b"x" * {HOARD_BYTES})

def keep_shared(path):
    hoard.append(mmap.mmap(-1, {HOARD_BYTES}))
    hoard[-1].write(b"x" * {HOARD_BYTES})

def keep_a_little(path):
    hoard.append(b"x" * {MEGABYTE})

def keep_in_a_ring(path):
    ring = [b"x" * {HOARD_BYTES}]
    ring.append(ring)
    hoard.append(ring)
    gc.collect()  # so that it is old, and the next one of the young leaves it

def free(path):
    blocks = [b"x" * 100_000 for _ in range({HOARD_BYTES} // 100_000)]

def need(path):
    needed = b"x" * {HOARD_BYTES}
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        time.sleep(0.01)

def keep_a_little_and_work(path):
    keep_a_little(path)
    time.sleep(0.05)

def nothing(path):
    pass

def transform_fn(model, data, content_type, accept):
    globals()[data](model)
    return "0.5"
"""


@asynccontextmanager
async def running_pool(on_recycle: Any = None, **settings: Any) -> AsyncIterator[Pool]:
    config = WorkerConfig(heartbeat_seconds=0.1, recycle_bytes=8 * MEGABYTE, **settings)
    pool = Pool(
        config, workers=1, threads=1, metrics=Metrics("e", "v"), on_lost=lambda *_: None,
        on_recycle=on_recycle,
    )  # fmt: skip
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


async def load(pool: Pool, directory: Path, model: str = "m") -> Residency:
    wanted = LoadRequest(model=model, name=model, directory=str(directory), size_bytes=1)
    return (await pool.load(wanted)).residency


async def told(pool: Pool, residency: Residency, what: str) -> None:
    outcome = await pool.predict(residency, Ask(what.encode(), "text/csv", "text/csv"))
    assert isinstance(outcome.result, Answered), outcome.result


async def beats(pool: Pool, count: int = 3) -> None:
    """Returns when the worker has given so many signs of life: as often it was looked at."""
    [process] = pool._processes()
    for _ in range(count):
        last_sign_at = process.last_sign_at
        await eventually(lambda at=last_sign_at: process.last_sign_at > at)


def worker(pool: Pool) -> dict[str, Any]:
    return pool.describe()[0]


@pytest.mark.parametrize("how", ["keep", "keep_in_a_ring", "keep_shared"])
async def test_what_a_model_takes_while_it_predicts_is_seen_and_gone_when_the_model_is(
    tmp_path: Path, how: str
) -> None:
    async with running_pool() as pool:
        hoarder = await load(pool, write_script(tmp_path, SCRIPT))
        await beats(pool)
        assert worker(pool)["excess_bytes"] <= SLACK_BYTES
        await told(pool, hoarder, how)
        await eventually(lambda: worker(pool)["excess_bytes"] > SLACK_BYTES)
        assert worker(pool)["excess_bytes"] == pytest.approx(HOARD_BYTES, abs=SLACK_BYTES)
        await pool.unload([hoarder])
        await eventually(lambda: worker(pool)["excess_bytes"] <= SLACK_BYTES)


async def test_what_a_framework_brings_later_is_the_workers_own(tmp_path: Path) -> None:
    trained = booster(1, trees=200, depth=6, dart=True)
    (tmp_path / trained.name).write_bytes(trained.data)
    async with running_pool() as pool:
        await beats(pool)
        before_bytes = worker(pool)["private_bytes"]
        model = await load(pool, tmp_path)
        await told(pool, model, CSV.decode())
        await beats(pool)
        assert worker(pool)["private_bytes"] > before_bytes + 30 * MEGABYTE
        assert worker(pool)["excess_bytes"] <= SLACK_BYTES


async def test_what_a_prediction_has_freed_is_no_excess_and_goes_back(tmp_path: Path) -> None:
    async with running_pool() as pool:
        model = await load(pool, write_script(tmp_path, SCRIPT))
        await beats(pool)
        before_bytes = worker(pool)["private_bytes"]
        await told(pool, model, "free")
        await beats(pool)
        assert worker(pool)["private_bytes"] < before_bytes + HOARD_BYTES / 2
        assert worker(pool)["excess_bytes"] <= SLACK_BYTES


async def test_what_a_prediction_needs_while_it_runs_is_no_excess(tmp_path: Path) -> None:
    async with running_pool() as pool:
        model = await load(pool, write_script(tmp_path, SCRIPT))
        await beats(pool)
        before_bytes = worker(pool)["private_bytes"]
        running = asyncio.create_task(told(pool, model, "need"))
        await eventually(lambda: worker(pool)["private_bytes"] > before_bytes + HOARD_BYTES / 2)
        await beats(pool)
        assert not running.done()
        assert worker(pool)["excess_bytes"] <= SLACK_BYTES
        await running


async def test_a_worker_that_never_rests_is_looked_at_between_two_batches(tmp_path: Path) -> None:
    async with running_pool() as pool:
        model = await load(pool, write_script(tmp_path, SCRIPT))
        await beats(pool)

        async def keep_asking() -> None:
            for _ in range(20):
                await told(pool, model, "keep_a_little_and_work")

        asking = [asyncio.create_task(keep_asking()) for _ in range(4)]
        await eventually(lambda: all(task.done() for task in asking[:2]))
        assert worker(pool)["excess_bytes"] > 8 * MEGABYTE
        await asyncio.wait(asking)


async def test_what_a_look_has_trimmed_is_not_lost_any_more(tmp_path: Path) -> None:
    small = write_script(tmp_path / "small", 'def model_fn(path):\n    return b"x" * 100_000\n')
    async with running_pool() as pool:
        busy = await load(pool, write_script(tmp_path / "busy", SCRIPT))
        await beats(pool)
        for number in range(5):
            leaving = [await load(pool, small, f"{name} {number}") for name in ("first", "second")]
            await pool.unload(leaving[:1])  # too little to be trimmed for
            await told(pool, busy, "free")
            await beats(pool, 13)  # it is trimmed at each tenth
            await pool.unload(leaving[1:])
        assert worker(pool)["lost_bytes"] < 300_000


async def test_what_a_worker_has_come_to_hold_while_it_was_young_is_what_its_models_need(
    tmp_path: Path,
) -> None:
    recycled: list[Residency] = []
    async with running_pool(recycled.extend, recycle_seconds=4.0) as pool:
        model = await load(pool, write_script(tmp_path, SCRIPT))
        await beats(pool)
        await told(pool, model, "keep")
        await eventually(lambda: worker(pool)["excess_bytes"] > SLACK_BYTES)
        assert model.slot.age_seconds < 4.0
        await eventually(lambda: model.slot.age_seconds > 4.2)
        await beats(pool)
        assert worker(pool)["state"] == "ready"
        await told(pool, model, "keep")  # as much again, now that it is old
        await eventually(lambda: recycled)
        assert recycled == [model]


async def test_a_worker_that_grows_with_each_request_is_replaced_and_each_is_answered(
    tmp_path: Path,
) -> None:
    trained = booster(1)
    drop(tmp_path / "models", "hoarder", {"code/inference.py": SCRIPT.encode()})
    drop(tmp_path / "models", "other", trained.members)
    settings = {"recycle": 8 * MEGABYTE, "recycle_seconds": 1.0, "heartbeat_seconds": 0.1}
    async with running_engine(tmp_path, **settings) as engine:
        with capture_logs() as logs:
            while [each["worker"] for each in engine.state()["workers"]] != [1]:
                assert await ask(engine, "hoarder", body=b"keep_a_little") == 0.5
                assert await ask(engine, "other") == pytest.approx(trained.prediction)
                await asyncio.sleep(0.02)  # slowly, or much is taken while the next one starts
        [leaving] = [entry for entry in logs if entry["event"] == "worker_leaving"]
        assert leaving["grown_bytes"] > 8 * MEGABYTE
        assert leaving["lost_bytes"] == 0
        await quiet(engine)
        assert await ask(engine, "hoarder", body=b"nothing") == 0.5
        kinds = {event["kind"] for event in engine.state()["events"]}
        assert kinds == {"loaded", "moved"}
