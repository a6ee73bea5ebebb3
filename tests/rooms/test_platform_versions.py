"""New, deleted and broken versions of what a multi-model container has loaded."""

from __future__ import annotations

import asyncio

import pytest

from mme.errors import ArtifactUnavailable, MmeError
from tests.eventually import eventually
from tests.many_models import ManyModels, ask, put, running


async def until_it_fails(sibling, name):
    while True:
        try:
            await ask(sibling, name)
        except MmeError as error:
            return error


@pytest.mark.parametrize("by_target", [False, True])
async def test_a_new_version_takes_over_and_the_old_one_is_unloaded(tmp_path, by_target):
    container, cache = ManyModels(by_target=by_target), {"refresh_seconds": 0.01}
    async with running(tmp_path, container, cache=cache) as (_, sibling):
        assert await ask(sibling, "a") == "weights of a|x"
        put(tmp_path, "a.tar.gz", b"newer")
        await until_it_answers(sibling, "newer|x")
        await eventually(lambda: len(container.models) == 1)
        assert await ask(sibling, "a") == "newer|x"
        assert container.not_found == 0


async def until_it_answers(sibling, text):
    while (answer := await ask(sibling, "a")) != text:
        assert answer == "weights of a|x"


async def test_an_old_version_stays_for_the_requests_that_are_in_it(tmp_path):
    cache = {"refresh_seconds": 0.01}
    async with running(tmp_path, cache=cache) as (container, sibling):
        container.invoke_gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            old = group.create_task(ask(sibling, "a"))
            await container.invoking.wait()
            put(tmp_path, "a.tar.gz", b"newer")
            group.create_task(ask(sibling, "a"))
            await eventually(lambda: container.count("load") == 2)
            await eventually(lambda: container.count("invoke") == 2)
            assert container.count("unload") == 0
            container.invoke_gate.set()
        assert old.result() == "weights of a|x"
        await eventually(lambda: len(container.models) == 1)


async def test_a_deleted_model_is_unloaded_and_no_longer_answers(tmp_path):
    cache = {"refresh_seconds": 0.01}
    async with running(tmp_path, cache=cache) as (container, sibling):
        await ask(sibling, "a")
        (tmp_path / "models" / "a.tar.gz").unlink()
        assert isinstance(await until_it_fails(sibling, "a"), ArtifactUnavailable)
        await eventually(lambda: container.targets() == [])


async def test_a_new_version_that_fails_to_load_leaves_the_old_one_answering(tmp_path):
    cache = {"refresh_seconds": 0.01}
    async with running(tmp_path, cache=cache) as (container, sibling):
        await ask(sibling, "a")
        put(tmp_path, "a.tar.gz", b"worse")
        container.on_load = lambda _: 500
        while not container.count("load") > 1:
            assert await ask(sibling, "a") == "weights of a|x"
        assert await ask(sibling, "a") == "weights of a|x"
