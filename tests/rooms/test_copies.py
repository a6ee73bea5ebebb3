"""Copies over real workers: a hot model gets one and loses it; a pinned one survives its move."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import pytest

from mme import ModelKey
from mme.errors import ModelNotReady
from tests.engines import (
    ask,
    assert_ledger_is_exact,
    cache_of,
    drop,
    invocation,
    quiet,
    running_engine,
)
from tests.eventually import eventually
from tests.models import booster

A = ModelKey("a.tar.gz")
HOT = ModelKey("hot.tar.gz")
SLEEPY = """
import time

def model_fn(model_dir):
    return "the model"

def transform_fn(model, data, content_type, accept):
    time.sleep(0.01)
    return "1"
"""


def workers_of(engine, key):
    return sorted(
        model["worker"]
        for model in engine.state()["models"]
        if model["model"] == key and model["state"] == "resident"
    )


@asynccontextmanager
async def asked_without_end(engine, key, callers, **fields):
    """So many callers that ask again as soon as they are answered; any failure fails the test."""

    async def call():
        while True:
            await engine.invoke(invocation(key, **fields))

    tasks = [asyncio.create_task(call()) for _ in range(callers)]
    try:
        yield
        assert not [task for task in tasks if task.done()], "a caller was refused"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("workers", [2, 3])
async def test_a_model_with_a_long_queue_gets_copies_and_loses_them_when_it_cools(
    tmp_path, workers
):
    drop(tmp_path / "models", HOT, {"code/inference.py": SLEEPY.encode(), "weights": b"none"})
    async with running_engine(
        tmp_path, workers=workers, copy_waiting=4, copy_idle_seconds=1.0
    ) as engine:
        await engine.load(HOT)
        assert len(workers_of(engine, HOT)) == 1
        async with asked_without_end(engine, HOT, 40):
            await eventually(lambda: workers_of(engine, HOT) == list(range(workers)))
            copies = cache_of(engine).residents.copies(HOT)
            hits = [copy.hits for copy in copies]
            await eventually(
                lambda: all(copy.hits > old for copy, old in zip(copies, hits, strict=True))
            )
            assert len({copy.copy_id for copy in copies}) == workers
        await eventually(lambda: len(workers_of(engine, HOT)) == 1)
        await quiet(engine)
        assert_ledger_is_exact(engine)


async def test_a_copy_takes_the_room_of_who_is_cold_and_of_nobody_else(tmp_path):
    models = tmp_path / "models"
    drop(models, HOT, booster(2, trees=400, depth=6).members)
    drop(models, A, booster(1, trees=400, depth=6).members)
    async with running_engine(tmp_path, workers=2, pressure_seconds=3600) as engine:
        cache = cache_of(engine)
        await engine.load(HOT)
        await engine.load(A)
        hot, other = cache.residents.current(HOT), cache.residents.current(A)
        wanted, size = cache.loading.placing.wanted_bytes(hot), hot.loaded.resident_bytes
        cache.residents.set_budget(cache.residents.ledger.resident_bytes)
        await ask(engine, HOT)
        await cache.copying._add(hot)
        assert (len(workers_of(engine, HOT)), len(workers_of(engine, A))) == (1, 1)
        cache.residents.set_budget(wanted + size + size // 2)
        other.used_at -= 60
        await cache.copying._add(hot)
        assert (len(workers_of(engine, HOT)), len(workers_of(engine, A))) == (2, 0)


async def test_models_move_off_a_worker_without_a_lost_request_and_pins_hold(tmp_path):
    for seed in range(4):
        drop(tmp_path / "models", f"{seed}.tar.gz", booster(seed).members)
    async with running_engine(tmp_path, workers=2) as engine:
        cache = cache_of(engine)
        for seed in range(4):
            await engine.load(ModelKey(f"{seed}.tar.gz"))
        cache.residents.pin(ModelKey("0.tar.gz"))
        leaving = cache.residents.current(ModelKey("0.tar.gz")).slot
        async with asked_without_end(engine, "0.tar.gz", 4):
            there = [entry for entry in cache.residents if entry.slot is leaving]
            assert there
            await cache.copying.move([entry.loaded.residency for entry in there])
        assert not leaving.residencies
        pinned = cache.residents.current(ModelKey("0.tar.gz"))
        assert pinned.pinned
        assert pinned.slot is not leaving
        cache.residents.set_budget(
            pinned.loaded.resident_bytes
        )  # everything that can be evicted is
        await quiet(engine)
        assert [model["model"] for model in engine.state()["models"]] == ["0.tar.gz"]
        for seed in range(4):
            assert len(workers_of(engine, f"{seed}.tar.gz")) == (seed == 0)


async def test_a_copy_whose_original_has_left_meanwhile_is_given_up(tmp_path):
    drop(tmp_path / "models", A, booster(1).members)
    async with running_engine(tmp_path, workers=2) as engine:
        cache = cache_of(engine)
        await engine.load(A)
        copying = asyncio.create_task(cache.loading.copy(cache.residents.current(A), "a test"))
        await eventually(lambda: any(worker["loading"] for worker in engine.state()["workers"]))
        await cache.unload(A)
        with pytest.raises(ModelNotReady):
            await copying
        await quiet(engine)
        assert engine.state()["models"] == []
        assert [worker["models"] for worker in engine.state()["workers"]] == [0, 0]


async def test_a_new_version_retires_every_copy_of_the_old_one(tmp_path):
    drop(tmp_path / "models", A, booster(1).members)
    async with running_engine(tmp_path, workers=2, refresh_seconds=0.2) as engine:
        await ask(engine, A)
        cache = cache_of(engine)
        await cache.loading.copy(cache.residents.current(A), "for the test")
        assert workers_of(engine, A) == [0, 1]
        drop(tmp_path / "models", A, booster(2).members)

        async def is_new():
            return await ask(engine, A) == pytest.approx(booster(2).prediction, rel=1e-6)

        async with asyncio.timeout(5):
            while not await is_new():
                pass
        await quiet(engine)
        assert len(workers_of(engine, A)) == 1


async def test_a_worker_that_ends_leaves_its_copy_elsewhere_answering(tmp_path):
    drop(tmp_path / "models", A, booster(1).members)
    async with running_engine(tmp_path, workers=2) as engine:
        await ask(engine, A)
        cache = cache_of(engine)
        cache.residents.pin(A)
        first = cache.residents.current(A)
        second = await cache.loading.copy(first, "for the test")
        worker = engine.state()["workers"][first.slot.index]
        os.kill(worker["pid"], signal.SIGKILL)
        await eventually(lambda: first.retired)
        assert second.pinned
        assert await ask(engine, A) == pytest.approx(booster(1).prediction, rel=1e-6)
        assert second.hits == 1


LEAKING = """
import sys

def model_fn(model_dir):
    sys.modules.setdefault("leaked", []).append(b"x" * 24_000_000)
    return "the model"

def transform_fn(model, data, content_type, accept):
    return "1"
"""


async def test_a_worker_that_keeps_memory_is_replaced_without_a_lost_request(tmp_path):
    models, leaking = tmp_path / "models", ModelKey("leaking.tar.gz")
    drop(models, A, booster(1).members)
    drop(models, leaking, {"code/inference.py": LEAKING.encode(), "weights": b"none"})
    async with running_engine(tmp_path, recycle=2**20, recycle_seconds=0.05) as engine:
        await engine.load(A)
        first = engine.state()["workers"][0]["pid"]
        async with asked_without_end(engine, A, 4):
            await engine.load(leaking)
            await cache_of(engine).unload(leaking)
            await eventually(
                lambda: (
                    len(engine.state()["workers"]) == 1
                    and engine.state()["workers"][0]["pid"] not in (None, first)
                )
            )
            assert len(workers_of(engine, A)) == 1
        await quiet(engine)
        kinds = [event["kind"] for event in engine.state()["events"] if event["model"] == A]
        assert kinds == ["loaded", "loaded", "moved"]
