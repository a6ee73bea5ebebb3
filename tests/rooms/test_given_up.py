"""What is given up half-way leaves nothing behind: no memory, no file, no descriptor, no task."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mme import Engine, ModelKey
from mme.errors import Draining, LoadFailed, WorkerLost
from tests.engines import ask, drop, running_engine
from tests.eventually import eventually
from tests.recalls import sleeper

HEAVY = b"""
def model_fn(model_dir):
    return bytearray(MEGABYTES * 1_000_000)

def transform_fn(model, data, content_type, accept):
    return data, "text/csv"
"""


def heavy(megabytes: int) -> dict[str, bytes]:
    """A model far larger in memory than on disk."""
    return {"code/inference.py": HEAVY.replace(b"MEGABYTES", b"%d" % megabytes)}


def worker(engine: Engine, index: int) -> dict[str, Any]:
    return engine.state()["workers"][index]


def told_of(engine: Engine) -> str:
    return engine.metrics_text()[0].decode()


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Has whoever makes a worker's directory in there wait, in its thread."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def test_a_load_whose_time_is_over_while_others_leave_for_it_leaves_its_worker(tmp_path):
    drop(tmp_path / "models", "stays", heavy(4))
    drop(tmp_path / "models", "grows", heavy(8))
    async with running_engine(
        tmp_path, workers=2, memory=10_000_000, load_seconds=2.0, pressure_seconds=3600
    ) as engine:
        await engine.load(ModelKey("stays"))
        with stopped(worker(engine, 0)["pid"]):
            with pytest.raises(LoadFailed, match="Not loaded within"):
                await ask(engine, "grows")
            await eventually(lambda: not worker(engine, 1)["models"])
        assert await ask(engine, "stays", body=b"1") == 1


async def test_who_waits_for_a_worker_while_the_engine_closes_starts_no_load(tmp_path):
    drop(tmp_path / "models", "sleeper", sleeper())
    async with running_engine(tmp_path) as engine:
        await engine.load(ModelKey("sleeper"))
        running = asyncio.create_task(ask(engine, "sleeper", body=b"60"))
        await eventually(lambda: worker(engine, 0)["running"])
        waiting = [asyncio.create_task(ask(engine, "sleeper", body=b"0")) for _ in range(3)]
        await eventually(lambda: worker(engine, 0)["running"] + worker(engine, 0)["queued"] == 4)
        await engine.__aexit__(None, None, None)
        with pytest.raises(WorkerLost):
            await running
        for task in waiting:
            with pytest.raises(Draining):
                await task
        assert engine.state()["loading"] == []


@pytest.mark.parametrize("can_be_made", [True, False])
async def test_a_worker_given_up_while_its_directory_is_made_leaves_none(
    tmp_path, caplog, can_be_made
):
    async with running_engine(tmp_path) as engine:
        workers = tmp_path / "cache" / "workers"
        with locked(workers):
            os.kill(worker(engine, 0)["pid"], signal.SIGKILL)
            await eventually(lambda: "mme_worker_restarts_total 1" in told_of(engine))
            closing = asyncio.create_task(engine.__aexit__(None, None, None))
            await asyncio.wait([closing], timeout=0.2)
            if not can_be_made:
                workers.rmdir()
        await closing
        await asyncio.get_running_loop().shutdown_default_executor()
        assert not [*workers.parent.glob("workers/*")]
        gc.collect()
        assert "never retrieved" not in caplog.text
