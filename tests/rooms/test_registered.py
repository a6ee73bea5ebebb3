"""Directories that a platform registers, and the cache over them: admission without eviction."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from mme.domain import ModelKey
from mme.errors import Draining, LoadFailed, MemoryRefused, ModelConflict, ModelMissing
from mme.store.registered import RegisteredDirectories
from tests.containers import HEAVY_BYTES, container, heavy, put
from tests.engines import assert_ledger_is_exact, invocation, quiet
from tests.eventually import eventually
from tests.models import booster

KEY = ModelKey("0a")
SLOW = """
import pathlib, time

def model_fn(model_dir):
    root = pathlib.Path(model_dir)
    (root / "begun").touch()
    while not (root / "go").exists():
        time.sleep(0.01)
    if (root / "fail").exists():
        raise ValueError("told to")

def transform_fn(model, data, content_type, accept):
    return "slow", "text/plain"
"""


async def version_of(directories):
    async with directories.lease(KEY) as artifact:
        return artifact.version


async def reply(engine, name):
    return (await engine.invoke(invocation(name, accept=None))).body


def private_bytes(engine):
    [worker] = engine.state()["workers"]
    return worker["private_bytes"]


async def test_a_version_is_what_the_directory_holds(tmp_path):
    url = put(tmp_path, "0a", booster(1).members)
    directories = RegisteredDirectories()
    directories.register(KEY, url)
    first = await version_of(directories)
    directories.unregister(KEY)
    directories.register(KEY, url)
    assert await version_of(directories) == first == await directories.head(KEY)
    put(tmp_path, "0a", booster(2, trees=9).members)
    assert await directories.head(KEY) == first  # what was loaded stays current
    assert await version_of(directories) != first


async def test_an_artifact_is_the_directory_itself_and_is_never_removed(tmp_path):
    url = put(tmp_path, "0a", booster(1).members)
    directories = RegisteredDirectories()
    directories.register(KEY, url)
    async with directories.lease(KEY) as artifact:
        assert artifact.directory == Path(url)
        assert artifact.unpacked_bytes >= len(booster(1).data)
        assert artifact.fetched_bytes == 0
    directories.discard(artifact.version)
    directories.unregister(KEY)
    assert (Path(url) / "xgboost-model").exists()


async def test_what_is_not_registered_or_is_gone_is_missing(tmp_path):
    directories = RegisteredDirectories()
    with pytest.raises(ModelMissing):
        await directories.head(KEY)
    url = put(tmp_path, "0a", booster(1).members)
    directories.register(KEY, url)
    with pytest.raises(ModelConflict):
        directories.register(KEY, url)
    shutil.rmtree(url)
    with pytest.raises(ModelMissing):
        async with directories.lease(KEY):
            pass


async def test_a_full_memory_refuses_evicts_nothing_and_takes_the_retry_after_an_unload(tmp_path):
    names = [ModelKey(name) for name in ("a", "b", "c")]
    urls = {name: put(tmp_path, name, heavy()) for name in names}
    a, b, c = names
    async with container(tmp_path, memory=int(2.5 * HEAVY_BYTES)) as (_front, engine):
        hosted = engine.management.hosted
        for name in (a, b):
            await hosted.load(name, urls[name])
        with pytest.raises(MemoryRefused):
            await hosted.load(c, urls[c])
        await quiet(engine)
        assert hosted.names() == [a, b]
        assert [await reply(engine, name) for name in (a, b)] == [str(HEAVY_BYTES).encode()] * 2
        assert_ledger_is_exact(engine)

        await eventually(lambda: private_bytes(engine) > 2 * HEAVY_BYTES)  # it tells now and then
        before_bytes = private_bytes(engine)
        await hosted.unload(a)
        assert engine.state()["memory"]["leaving_bytes"] == 0
        assert private_bytes(engine) < before_bytes - 0.9 * HEAVY_BYTES
        await hosted.load(c, urls[c])
        assert await reply(engine, c) == str(HEAVY_BYTES).encode()
        assert_ledger_is_exact(engine)


async def test_a_load_outlives_who_asked_and_the_name_is_taken_meanwhile(tmp_path):
    url = put(tmp_path, "0a", {"code/inference.py": SLOW.encode()})
    async with container(tmp_path, isolation="off") as (_front, engine):
        hosted = engine.management.hosted
        asked = asyncio.create_task(hosted.load(KEY, url))
        await eventually((Path(url) / "begun").exists)
        asked.cancel()
        await asyncio.wait([asked])
        with pytest.raises(ModelConflict):
            await hosted.load(KEY, url)
        assert hosted.names() == []
        waiting = asyncio.create_task(reply(engine, KEY))
        (Path(url) / "go").touch()
        assert await waiting == b"slow"
        await eventually(hosted.names)


async def test_a_load_that_fails_behind_its_caller_leaves_no_name(tmp_path):
    url = put(tmp_path, "0a", {"code/inference.py": SLOW.encode(), "fail": b""})
    async with container(tmp_path, isolation="off") as (_front, engine):
        hosted = engine.management.hosted
        asked = asyncio.create_task(hosted.load(KEY, url))
        await eventually((Path(url) / "begun").exists)
        asked.cancel()
        await asyncio.wait([asked])
        (Path(url) / "go").touch()

        def is_free():
            try:
                hosted.url(KEY)
            except ModelMissing:
                return True
            return False

        await eventually(is_free)
        await quiet(engine)
        with pytest.raises(LoadFailed):
            await hosted.load(KEY, url)


async def test_an_unload_waits_for_a_load_under_way_and_both_callers_of_it_succeed(tmp_path):
    url = put(tmp_path, "0a", {"code/inference.py": SLOW.encode()})
    async with container(tmp_path, isolation="off") as (_front, engine):
        hosted = engine.management.hosted
        loaded = asyncio.create_task(hosted.load(KEY, url))
        await eventually((Path(url) / "begun").exists)
        unloads = [asyncio.create_task(hosted.unload(KEY)) for _ in range(2)]
        (Path(url) / "go").touch()
        await asyncio.wait([loaded, *unloads])
        assert [task.exception() for task in (loaded, *unloads)] == [None] * 3
        assert engine.state()["models"] == []
        assert_ledger_is_exact(engine)


async def test_a_server_that_closes_ends_a_load_under_way(tmp_path):
    url = put(tmp_path, "0a", {"code/inference.py": SLOW.encode()})
    async with container(tmp_path, isolation="off") as (_front, engine):
        loaded = asyncio.create_task(engine.management.hosted.load(KEY, url))
        await eventually((Path(url) / "begun").exists)
    await asyncio.wait([loaded])
    assert isinstance(loaded.exception(), Draining)


async def test_a_model_lost_with_its_worker_stays_registered_and_answers_again(tmp_path):
    url = put(tmp_path, "0a", booster(1).members)
    async with container(tmp_path) as (_front, engine):
        hosted = engine.management.hosted
        await hosted.load(KEY, url)
        [worker] = engine.state()["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        await eventually(lambda: not engine.state()["models"])
        assert hosted.names() == [KEY]
        answer = await engine.invoke(invocation(KEY))
        assert float(answer.body) == pytest.approx(booster(1).prediction)


async def test_a_single_model_is_loaded_at_start_and_again_after_its_worker_died(tmp_path):
    url = put(tmp_path, "0a", booster(1).members)
    async with container(tmp_path, container="single", models=url) as (_front, engine):
        single = engine.management.single
        assert engine.readiness() == ["the model is being loaded"]
        await eventually(single.is_loaded)
        assert engine.readiness() == []
        [worker] = engine.state()["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        await eventually(lambda: not single.is_loaded())
        await eventually(single.is_loaded)
        assert single.failure() is None
