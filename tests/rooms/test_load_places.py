"""Who waits for a load, in a real cache: requests have places, and nothing else takes one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mme import Engine, ModelKey
from mme.errors import Overloaded
from tests.engines import ask, drop, quiet, running_engine
from tests.eventually import eventually
from tests.models import booster

PREDICTION = pytest.approx(booster(1).prediction)


def put(root: Path, *names: str) -> None:
    for name in names:
        drop(root / "models", name, booster(1).members)


def waiting(engine: Engine) -> int:
    return engine.state()["waiting_for_loads"]


def loading(engine: Engine) -> list[str]:
    return engine.state()["loading"]


def in_memory(engine: Engine) -> set[str]:
    return {model["model"] for model in engine.state()["models"]}


@contextlib.contextmanager
def standing_still(engine: Engine) -> Iterator[None]:
    """Its worker does nothing meanwhile: a load that has begun keeps its slot."""
    pid = engine.state()["workers"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def begin(engine: Engine, name: str) -> asyncio.Task[float]:
    """Asks for a model, and returns once its load has what it needs of memory."""
    asking = asyncio.create_task(ask(engine, name))
    await eventually(lambda: engine.state()["memory"]["reserved_bytes"] > 0)
    return asking


async def ask_and_leave(engine: Engine, name: str) -> None:
    leaves = asyncio.create_task(ask(engine, name))
    await eventually(lambda: name in loading(engine))
    leaves.cancel()
    await asyncio.wait([leaves])


async def test_what_is_loaded_without_a_request_takes_no_place_and_is_never_refused(
    tmp_path: Path,
) -> None:
    put(tmp_path, "first", "a", "b", "c")
    async with running_engine(tmp_path, queue_total=1, load_concurrency=1) as engine:
        async with asyncio.TaskGroup() as loads:
            with standing_still(engine):
                first = await begin(engine, "first")
                for name in "ab":
                    loads.create_task(engine.load(ModelKey(name)))
                await eventually(lambda: len(loading(engine)) == 3)
                assert waiting(engine) == 1
                with pytest.raises(Overloaded):
                    await ask(engine, "c")
        assert await first == PREDICTION
        assert waiting(engine) == 0
        assert in_memory(engine) == {"first", "a", "b"}
        assert await ask(engine, "c") == PREDICTION


async def test_who_asks_and_leaves_queues_no_more_loads_than_may_wait(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(12)]
    put(tmp_path, "first", *names)
    async with running_engine(tmp_path, queue_total=4, load_concurrency=1) as engine:
        with standing_still(engine):
            first = await begin(engine, "first")
            for name in names:
                await ask_and_leave(engine, name)
            assert loading(engine) == ["first", *names[-4:]]
            assert waiting(engine) == 1
        assert await ask(engine, names[0]) == PREDICTION  # it was given up, and begins anew
        assert await first == PREDICTION
        await quiet(engine)
        assert in_memory(engine) == {"first", names[0], *names[-4:]}


async def test_a_load_that_has_begun_goes_on_though_all_have_left(tmp_path: Path) -> None:
    put(tmp_path, "first", "a", "b", "c")
    async with running_engine(tmp_path, queue_total=1, load_concurrency=1) as engine:
        with standing_still(engine):
            leaves = await begin(engine, "first")
            leaves.cancel()
            await asyncio.wait([leaves])
            for name in "abc":
                await ask_and_leave(engine, name)
            assert loading(engine) == ["first", "c"]
        await quiet(engine)
        assert in_memory(engine) == {"first", "c"}
        assert engine.state()["workers"][0]["restarts"] == 0
