"""Loads beside predictions: they hold back for those that are late, and end all the same."""

from __future__ import annotations

import asyncio

import pytest

from tests.engines import ask, cache_of, drop, running_engine
from tests.eventually import eventually
from tests.models import booster

WARM, COLD, CALLERS = 4, 4, 32


@pytest.fixture
def models(tmp_path):
    for seed in range(WARM + COLD):
        drop(tmp_path / "models", f"{seed}.tar.gz", booster(seed).members)
    return tmp_path


async def test_cold_models_answer_right_while_a_worker_has_all_it_can_do(models):
    async with running_engine(models) as engine:
        for seed in range(WARM):
            await ask(engine, f"{seed}.tar.gz")
        late, is_over = 0, asyncio.Event()

        async def ask_again_and_again(seed: int) -> None:
            while not is_over.is_set():
                await ask(engine, f"{seed}.tar.gz")

        async def load(seed: int) -> None:
            nonlocal late
            answer = await ask(engine, f"{seed}.tar.gz")
            assert answer == pytest.approx(booster(seed).prediction, rel=1e-6)
            late += cache_of(engine).loading.placing._pool.loads_while_late() is not None

        async with asyncio.TaskGroup() as callers:
            for number in range(CALLERS):
                callers.create_task(ask_again_and_again(number % WARM))
            try:
                async with asyncio.timeout(15), asyncio.TaskGroup() as loads:
                    for seed in range(WARM, WARM + COLD):
                        loads.create_task(load(seed))
            finally:
                is_over.set()
        assert late


async def test_a_server_that_has_caught_up_holds_no_load_back(models):
    async with running_engine(models) as engine:
        async with asyncio.TaskGroup() as callers:
            for number in range(CALLERS):
                callers.create_task(ask(engine, f"{number % WARM}.tar.gz"))
        pool = cache_of(engine).loading.placing._pool
        await eventually(lambda: pool.loads_while_late() is None)
