"""The platform over a multi-model container, a sound one and ones that deviate."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from mme.containers.platform_calls import PlatformCalls
from mme.domain import BodyStream
from mme.errors import (
    InvalidRequest,
    InvocationTimeout,
    MemoryRefused,
    ModelNotReady,
    SiblingFailed,
    SiblingSilent,
)
from tests.engines import invocation
from tests.eventually import eventually
from tests.many_models import BLOCK, ManyModels, ask, failure_of, platform, put, running, states
from tests.raw_http import reply
from tests.siblings import sibling


async def test_a_model_is_loaded_once_and_told_by_the_same_target_all_along(tmp_path):
    async with running(tmp_path, loaded_models=1) as (container, sibling):
        first = await sibling.invoke(invocation("a.tar.gz", b"x"))
        second = await sibling.invoke(invocation("a.tar.gz", b"y"))
        assert (first.body, first.cache_hit) == (b"weights of a|x", False)
        assert (second.body, second.cache_hit) == (b"weights of a|y", True)
        assert first.timings.load_seconds > 0 == second.timings.load_seconds
        assert await ask(sibling, "b") == "weights of b|x"
        assert container.calls == [
            ("load", "a.tar.gz"),
            ("invoke", "a.tar.gz"),
            ("invoke", "a.tar.gz"),
            ("unload", "a.tar.gz"),
            ("load", "b.tar.gz"),
            ("invoke", "b.tar.gz"),
        ]


async def test_many_who_ask_for_a_cold_model_share_one_load(tmp_path):
    async with running(tmp_path) as (container, sibling), asyncio.TaskGroup() as group:
        container.load_gate = asyncio.Event()
        asked = [group.create_task(ask(sibling, "a")) for _ in range(8)]
        await container.loading.wait()
        container.load_gate.set()
        assert [await answer for answer in asked] == ["weights of a|x"] * 8
        assert container.count("load") == 1


async def test_a_load_outlives_its_caller_who_is_told_to_come_again(tmp_path):
    async with running(tmp_path) as (container, sibling):
        container.load_gate = asyncio.Event()
        with pytest.raises(ModelNotReady):
            await ask(sibling, "a", seconds=0.1)
        container.load_gate.set()
        assert await ask(sibling, "a") == "weights of a|x"
        assert container.count("load") == 1


@pytest.mark.parametrize("status", [200, 201, 210])
async def test_any_good_status_says_that_a_model_is_loaded(tmp_path, status):
    async with running(tmp_path, ManyModels(loaded_status=status)) as (_, sibling):
        assert await ask(sibling, "a") == "weights of a|x"


async def test_a_model_that_is_there_already_is_taken_for_loaded(tmp_path):
    async with running(tmp_path) as (container, sibling):
        await ask(sibling, "a")
        sibling.forget_models()
        assert states(sibling) == {}
        assert await ask(sibling, "a") == "weights of a|x"
        assert container.count("load") == 2


async def test_a_container_out_of_memory_gives_up_the_least_recently_used_model(tmp_path):
    async with running(tmp_path, ManyModels(capacity=2)) as (container, sibling):
        for name in "aba":
            await ask(sibling, name)
        assert await ask(sibling, "c") == "weights of c|x"
        assert container.targets() == ["a.tar.gz", "c.tar.gz"]


async def test_out_of_memory_with_nothing_to_unload_is_refused_as_507_and_not_remembered(tmp_path):
    async with running(tmp_path, ManyModels(capacity=0)) as (container, sibling):
        with pytest.raises(MemoryRefused, match="out of memory") as refused:
            await ask(sibling, "a")
        assert refused.value.original_status == 507
        container.capacity = 1
        assert await ask(sibling, "a") == "weights of a|x"


async def test_a_model_in_use_is_not_unloaded_for_another(tmp_path):
    async with running(tmp_path, ManyModels(capacity=1)) as (container, sibling):
        container.invoke_gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(ask(sibling, "a"))
            await container.invoking.wait()
            with pytest.raises(MemoryRefused):
                await ask(sibling, "b")
            container.invoke_gate.set()
            assert await answer == "weights of a|x"
        assert ("unload", "a.tar.gz") not in container.calls


async def test_models_of_an_earlier_life_leave_when_room_is_needed(tmp_path):
    async with running(tmp_path, ManyModels(capacity=3)) as (container, sibling):
        for name in "abc":
            await ask(sibling, name)
        sibling.forget_models()
        assert await ask(sibling, "d") == "weights of d|x"
        assert container.targets() == ["d.tar.gz"]


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_a_refused_load_is_told_with_its_status_and_not_tried_again_at_once(tmp_path, status):
    async with running(tmp_path, ManyModels(on_load=lambda _: status)) as (container, sibling):
        for _ in range(3):
            with pytest.raises(SiblingFailed, match=r"no: a\.tar\.gz") as failed:
                await ask(sibling, "a")
            assert failed.value.original_status == status
        assert container.count("load") == 1
        await eventually(lambda: container.count("unload") == 1)  # what the load may have left
        await eventually(lambda: not states(sibling))
        [failure] = sibling.describe()["failures"]
        assert failure["model"] == "a.tar.gz"


async def test_a_mended_model_is_loaded_long_before_the_failure_is_forgotten(tmp_path):
    container = ManyModels(on_load=lambda _: 500)
    async with running(tmp_path, container, cache={"failure_seconds": 300}) as (_, sibling):
        assert isinstance(await failure_of(sibling, "a"), SiblingFailed)
        container.on_load = lambda _: None
        put(tmp_path, "a.tar.gz", b"mended")
        answer = None
        while answer is None:
            with contextlib.suppress(SiblingFailed):
                answer = await ask(sibling, "a")
        assert answer == "mended|x"


async def test_the_limit_on_models_holds_while_requests_come_for_more(tmp_path):
    async with running(tmp_path, loaded_models=2) as (container, sibling):
        container.on_load = lambda _: 599 if len(container.models) > 1 else None
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(sibling, name)) for name in "abcd" * 5]
        assert [answer.result()[:12] for answer in asked] == [f"weights of {x}" for x in "abcd"] * 5


async def test_the_limit_on_bytes_holds_and_a_model_over_all_of_it_is_refused(tmp_path):
    async with running(tmp_path, loaded_bytes=3 * BLOCK) as (container, sibling):
        put(tmp_path, "big.tar.gz", bytes(2 * BLOCK))
        put(tmp_path, "huge.tar.gz", bytes(9 * BLOCK))
        for name in ("a", "b", "c", "big"):
            await ask(sibling, name)
        assert sibling.describe()["bytes"] == 3 * BLOCK
        assert container.targets() == ["big.tar.gz", "c.tar.gz"]
        with pytest.raises(MemoryRefused, match=f"may hold {3 * BLOCK}"):
            await ask(sibling, "huge")
        assert container.targets() == ["big.tar.gz", "c.tar.gz"]


async def test_a_load_waits_for_models_in_use_when_the_limit_is_reached(tmp_path):
    async with running(tmp_path, loaded_models=1) as (container, sibling):
        container.invoke_gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ask(sibling, "a"))
            await container.invoking.wait()
            second = group.create_task(ask(sibling, "b"))
            await eventually(lambda: sibling.describe()["loading"] == ["b.tar.gz"])
            assert container.targets() == ["a.tar.gz"]
            container.invoke_gate.set()
        assert (first.result(), second.result()) == ("weights of a|x", "weights of b|x")


async def test_a_model_asked_for_while_it_is_unloaded_is_loaded_after_that(tmp_path):
    async with running(tmp_path, loaded_models=1) as (container, sibling):
        await ask(sibling, "a")
        container.unload_gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(sibling, "b"))
            await container.unloading.wait()
            with pytest.raises(ModelNotReady):
                await ask(sibling, "a", seconds=0.3)
            container.unload_gate.set()
            assert await ask(sibling, "a") == "weights of a|x"
        asked = [what for what, target in container.calls if target == "a.tar.gz"]
        assert asked[:5] == ["load", "invoke", "unload", "load", "invoke"]


@pytest.mark.parametrize("list_as", ["models", "map", "nothing"])
async def test_a_container_that_forgot_its_models_gets_them_again_unnoticed(tmp_path, list_as):
    async with running(tmp_path, ManyModels(list_as=list_as)) as (container, sibling):
        for name in "abc":
            await ask(sibling, name)
        container.models.clear()
        assert await ask(sibling, "a") == "weights of a|x"
        started_over = list_as != "nothing"
        assert states(sibling).keys() == ({"a"} if started_over else {"a", "b", "c"})
        assert await ask(sibling, "b") == "weights of b|x"


async def test_a_model_that_was_forgotten_alone_costs_one_load_and_the_others_none(tmp_path):
    async with running(tmp_path) as (container, sibling):
        for name in "ab":
            await ask(sibling, name)
        [forgotten] = [x for x, (target, _) in container.models.items() if target == "a.tar.gz"]
        del container.models[forgotten]
        for name in "ab":
            assert await ask(sibling, name) == f"weights of {name}|x"
        assert container.count("load") == 3


async def test_a_404_of_the_models_own_is_handed_on_without_another_load(tmp_path):
    async with running(tmp_path, ManyModels(on_invoke=lambda _: 404)) as (container, sibling):
        with pytest.raises(SiblingFailed, match="the model says no") as failed:
            await ask(sibling, "a")
        assert failed.value.original_status == 404
        assert (container.count("load"), container.count("invoke")) == (1, 1)


async def test_out_of_memory_in_an_invocation_unloads_others_and_asks_once_more(tmp_path):
    async with running(tmp_path) as (container, sibling):
        for name in "ab":
            await ask(sibling, name)
        container.on_invoke = lambda _: 507 if len(container.models) > 1 else None
        assert await ask(sibling, "b") == "weights of b|x"
        assert container.targets() == ["b.tar.gz"]
        container.on_invoke = lambda _: 507
        with pytest.raises(SiblingFailed) as failed:
            await ask(sibling, "b")
        assert failed.value.original_status == 507


async def test_a_container_that_ends_and_comes_back_empty_answers_again(tmp_path):
    container = ManyModels()
    put(tmp_path, "a.tar.gz", b"weights of a")
    settings = {"cache": {"failure_seconds": 0.01}}
    async with contextlib.AsyncExitStack() as stack:
        async with container.served():
            url = f"http://127.0.0.1:{container.port}"
            sibling = await stack.enter_async_context(platform(tmp_path, url, **settings))
            await ask(sibling, "a")
        with pytest.raises(SiblingSilent) as silent:
            await ask(sibling, "a")
        assert silent.value.original_status == 0
        async with container.served():
            assert await ask(sibling, "a") == "weights of a|x"


async def test_a_container_that_is_down_is_no_failure_of_the_models(tmp_path):
    container = ManyModels()
    put(tmp_path, "a.tar.gz", b"weights of a")
    async with contextlib.AsyncExitStack() as stack:
        async with container.served():
            url = f"http://127.0.0.1:{container.port}"
            sibling = await stack.enter_async_context(platform(tmp_path, url))
        with pytest.raises(SiblingSilent):
            await ask(sibling, "a")
        async with container.served():
            assert await ask(sibling, "a") == "weights of a|x"


async def test_a_restart_during_a_load_fails_it_and_leaves_nothing(tmp_path):
    async with running(tmp_path) as (container, sibling):
        container.load_gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(failure_of(sibling, "a"))
            await container.loading.wait()
            sibling.forget_models()
            container.load_gate.set()
        assert "restarted while it loaded" in str(asked.result())
        assert states(sibling) == {}


async def test_a_hanging_load_is_given_up_in_time_and_told_to_be_late(tmp_path):
    async with running(tmp_path, cache={"load_seconds": 0.1}) as (container, sibling):
        container.load_gate = asyncio.Event()
        failed = await failure_of(sibling, "a")
        assert "Not loaded by container many within 0.1 s" in str(failed)
        await eventually(lambda: container.count("unload") == 1)


async def test_a_hanging_invocation_ends_with_its_deadline(tmp_path):
    async with running(tmp_path) as (container, sibling):
        await ask(sibling, "a")
        container.invoke_gate = asyncio.Event()
        with pytest.raises(InvocationTimeout, match="many"):
            await ask(sibling, "a", seconds=0.1)
        assert sibling.describe()["models"][0]["in_flight"] == 0


async def test_a_streamed_body_can_be_sent_again_and_an_answer_be_streamed_on(tmp_path):
    async def chunks():
        yield b"in "
        yield b"pieces"

    async with running(tmp_path) as (container, sibling):
        await ask(sibling, "a")
        container.models.clear()
        body = BodyStream(chunks=chunks(), length_bytes=None)
        async with sibling.open(invocation("a.tar.gz", body)) as handover:
            assert handover.body == b"weights of a|in pieces"
            assert handover.content_type == "application/octet-stream"
        assert sibling.describe()["models"][0]["in_flight"] == 0


async def test_an_invocation_without_a_target_model_is_refused(tmp_path):
    async with running(tmp_path) as (_, sibling):
        with pytest.raises(InvalidRequest) as refused:
            await sibling.invoke(invocation(None))
        assert refused.value.code == "TARGET_MODEL_HEADER_MISSING"


@pytest.mark.parametrize("how", ["evicted", "ended"])
async def test_a_directory_stays_while_its_model_is_loaded_and_can_go_afterwards(tmp_path, how):
    async with running(tmp_path, loaded_models=1) as (container, sibling):
        await ask(sibling, "a")
        [(_, directory)] = container.models.values()
        artifacts = sibling._loading._artifacts
        async with artifacts.lease("a.tar.gz") as artifact:
            artifacts.discard(artifact.version)
        assert await ask(sibling, "a") == "weights of a|x"
        if how == "evicted":
            await ask(sibling, "b")
        else:
            sibling.forget_models()
        await eventually(lambda: not directory.exists())


@pytest.mark.parametrize(
    "listed",
    [
        b"rubbish",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"models": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        json.dumps({"models": [{"modelName": "a"}] * 100_000}).encode(),
    ],
    ids=["rubbish", "no object", "no text", "deep", "deeper", "large"],
)
async def test_a_list_of_models_that_is_none_tells_nothing(listed):
    async with sibling(reply("200 OK", listed)) as (client, _):
        assert await PlatformCalls(client).names() is None
