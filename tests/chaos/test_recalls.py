"""A worker that ends while models come back to it costs what ran in it, and what it had kept."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import psutil
import pytest

from mme import Engine
from mme.errors import WorkerLost
from tests.engines import assert_ledger_is_exact, quiet
from tests.eventually import eventually
from tests.recalls import outcomes, recalling, residents_of, right

MODELS, CLIENTS = 12, 8


def workers(engine: Engine) -> list[int | None]:
    return [worker["pid"] for worker in engine.state()["workers"]]


@pytest.mark.timeout(60)
async def test_a_worker_killed_while_models_are_recalled_costs_what_ran_in_it_only(tmp_path):
    others = {child.pid for child in psutil.Process().children(recursive=True)}
    async with recalling(tmp_path, MODELS, workers=2) as engine:
        residents, drawn, failed = residents_of(engine), random.Random(7), []
        residents.set_budget(residents.ledger.resident_bytes // 2)
        await quiet(engine)
        stopped = asyncio.Event()

        async def go_on() -> None:
            while not stopped.is_set():
                seed = drawn.randrange(MODELS)
                try:
                    assert await right(engine, seed)
                except WorkerLost as error:
                    failed.append((seed, error))

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(go_on())
            await eventually(lambda: outcomes(engine)[1] > 50, 0.05)
            pid = workers(engine)[0]
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda: workers(engine)[0] not in {pid, None})
            recalled = outcomes(engine)[1]
            await eventually(lambda: outcomes(engine)[1] > recalled + 50, 0.05)
            stopped.set()
        assert all(error.started for _, error in failed)
        assert len({seed for seed, _ in failed}) <= 1  # a batch is of one model
        await quiet(engine)
        assert_ledger_is_exact(engine)
        family = {child.pid for child in psutil.Process().children(recursive=True)}
        assert family - others == set(workers(engine))
        assert len(list((tmp_path / "cache/workers").iterdir())) == 2
        for seed in range(MODELS):
            assert await right(engine, seed)
    assert list((tmp_path / "cache/workers").iterdir()) == []
