"""Models loaded ahead of need: pinned, prewarmed, restored; at no cost to those asked for."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from mme import Engine, ModelKey
from mme.errors import MemoryRefused, ModelMissing
from tests.engines import ask, cache_of, drop, quiet, running_engine
from tests.eventually import eventually

SCRIPT = b"""
def model_fn(model_dir):
    return bytearray(8_000)

def transform_fn(model, data, content_type, accept):
    return "7.0", accept
"""  # needs no framework, so that a worker is ready to load it at once
KIB = 1024
ROOM_FOR_ONE = 66 * KIB  # a load reserves 64 KiB at least
ROOM_FOR_SOME = 256 * KIB


def put(root: Path, *names: str) -> None:
    for name in names:
        drop(root / "models", name, {"code/inference.py": SCRIPT})


def in_memory(engine: Engine) -> set[str]:
    return {model["model"] for model in engine.state()["models"]}


def reasons(engine: Engine, kind: str) -> list[str]:
    return [event["reason"] for event in engine.state()["events"] if event["kind"] == kind]


def is_warm(engine: Engine) -> bool:
    warming = engine.state()["warming"]
    return warming["restored"] and not warming["waiting"]


async def test_pinned_and_prewarmed_models_are_there_though_nobody_asked(tmp_path: Path) -> None:
    put(tmp_path, "a", "b", "c")
    async with running_engine(tmp_path, prewarm=("a", "no such"), pin=("b",)) as engine:
        await eventually(lambda: is_warm(engine))
        models = {model["model"]: model for model in engine.state()["models"]}
        assert {name: models[name]["pinned"] for name in models} == {"a": False, "b": True}
        assert reasons(engine, "loaded") == ["loaded ahead"] * 2
        assert await ask(engine, "a") == 7.0
        text = engine.metrics_text()[0].decode()
        assert 'ModelCacheHit_sum{EndpointName="mme",VariantName="AllTraffic"} 1.0' in text


async def test_prewarming_stops_when_memory_is_full_and_evicts_nothing(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(60)]
    put(tmp_path, "asked", *names)
    async with running_engine(tmp_path, memory=ROOM_FOR_SOME) as engine:
        await ask(engine, "asked")
        told = await engine.management.operated.prewarm([ModelKey(n) for n in [*names, "none"]])
        assert told == {
            "taken": 60,
            "inMemory": 0,
            "unknown": [{"modelName": "none", "reason": "missing"}],
        }
        await eventually(lambda: not engine.state()["warming"]["waiting"])
        await quiet(engine)
        assert {"asked", "m0"} < in_memory(engine)
        assert reasons(engine, "evicted") == []
        with pytest.raises(MemoryRefused):
            await cache_of(engine).loading.prepare(ModelKey("m59"))
        await ask(engine, "m59")  # who is asked for makes room
        assert "m59" in in_memory(engine)
        await quiet(engine)


async def test_a_request_does_not_wait_for_all_that_is_loaded_ahead(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(40)]
    put(tmp_path, "live", *names)
    async with running_engine(tmp_path, prewarm=tuple(names)) as engine:
        await ask(engine, "live")
        assert len(in_memory(engine)) < 40
        await eventually(lambda: is_warm(engine))
        assert in_memory(engine) == {"live", *names}


async def test_a_load_ahead_that_a_request_joins_may_evict(tmp_path: Path) -> None:
    put(tmp_path, "old", "new")
    async with running_engine(tmp_path, memory=ROOM_FOR_ONE) as engine:
        await ask(engine, "old")
        ahead = asyncio.create_task(cache_of(engine).loading.prepare(ModelKey("new")))
        await asyncio.sleep(0)
        await ask(engine, "new")
        await ahead
        await quiet(engine)
        assert in_memory(engine) == {"new"}


async def test_a_restart_brings_back_what_was_hot_from_disk(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(6)]
    put(tmp_path, *names)
    async with running_engine(tmp_path, restore="on") as engine:
        for number, name in enumerate(names):
            for _ in range(1 + number % 4):
                await ask(engine, name)
        with pytest.raises(ModelMissing):
            await engine.management.operated.unload(ModelKey("nobody"))
        await engine.management.operated.unload(ModelKey("m2"))
        await eventually(lambda: is_warm(engine))
    (tmp_path / "models" / "m4").unlink()
    async with running_engine(tmp_path, restore="on") as engine:
        await eventually(lambda: is_warm(engine))
        assert in_memory(engine) == {"m0", "m1", "m3", "m5"}
        assert "mme_fetched_bytes_total 0.0" in engine.metrics_text()[0].decode()
        assert (
            cache_of(engine)
            .residents.ledger.order()[-1]
            .startswith(cache_of(engine).residents.current(ModelKey("m3")).version.digest)
        )


async def test_restoring_can_be_switched_off_and_a_lost_list_is_none(tmp_path: Path) -> None:
    put(tmp_path, "a")
    async with running_engine(tmp_path, restore="on") as engine:
        await ask(engine, "a")
        await eventually(lambda: is_warm(engine))
    async with running_engine(tmp_path, restore="off") as engine:
        await eventually(lambda: is_warm(engine))
        assert in_memory(engine) == set()
    async with running_engine(tmp_path, restore="on") as engine:
        await eventually(lambda: is_warm(engine))
        assert in_memory(engine) == set()  # the last run had nothing in memory
    shutil.rmtree(tmp_path / "cache")
    async with running_engine(tmp_path, restore="on") as engine:
        await eventually(lambda: is_warm(engine))


async def test_a_restore_that_finds_less_memory_brings_back_one_of_the_hottest(
    tmp_path: Path,
) -> None:
    hottest_first = [f"m{number}" for number in range(8)]
    put(tmp_path, *hottest_first)
    async with running_engine(tmp_path, restore="on") as engine:
        for number, name in enumerate(hottest_first):
            for _ in range(2 * (8 - number)):
                await ask(engine, name)
        await eventually(lambda: is_warm(engine))
    async with running_engine(tmp_path, restore="on", memory=ROOM_FOR_ONE) as engine:
        await eventually(lambda: is_warm(engine))
        (brought,) = in_memory(engine)
        assert brought in hottest_first[:4]  # four load at once: whichever of them comes first
        assert reasons(engine, "evicted") == []
