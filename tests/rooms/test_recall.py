"""A model that was evicted and that its worker has kept comes back by one message, as it was."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from mme import ModelKey
from mme.domain import ArtifactVersion
from mme.errors import ArtifactUnavailable
from mme.store.base import Versions
from tests.engines import ask, cache_of, drop, invocation, quiet
from tests.eventually import eventually
from tests.models import booster
from tests.recalls import evict, lost, outcomes, recalling, residents_of, right


async def test_it_answers_the_same_to_the_bit_and_neither_store_nor_disk_is_asked(tmp_path):
    async with recalling(tmp_path, 3) as engine:
        before = [await engine.invoke(invocation(f"{seed}")) for seed in range(3)]
        await evict(engine)
        (tmp_path / "models").rename(tmp_path / "away")
        [lent] = (tmp_path / "cache/workers").glob("*/models")
        lent.rename(tmp_path / "lent")
        again = [await engine.invoke(invocation(f"{seed}")) for seed in range(3)]
        assert [reply.body for reply in again] == [reply.body for reply in before]
        assert [reply.version for reply in again] == [reply.version for reply in before]
        assert not any(reply.cache_hit for reply in again)
        assert outcomes(engine) == (3, 3)
        reasons = {event["reason"] for event in engine.state()["events"][-3:]}
        assert reasons == {"recalled: its worker had kept it"}
        usage = engine._built_in.cache.residents.accounts.of("0")
        assert usage.loads == 2
        assert usage.load_seconds == residents_of(engine).current(ModelKey("0")).loaded.load_seconds
        (tmp_path / "lent").rename(lent)


async def test_more_models_than_fit_answer_right_for_many_rounds_and_nothing_is_lost(tmp_path):
    count, drawn = 20, random.Random(7)
    async with recalling(tmp_path, count, workers=2) as engine:
        residents = residents_of(engine)
        residents.set_budget(residents.ledger.resident_bytes // 3)
        await quiet(engine)
        turns = asyncio.Semaphore(6)

        async def check() -> None:
            async with turns:
                assert await right(engine, drawn.randrange(count))
                ledger = residents.ledger
                assert ledger.charged_bytes <= ledger.budget_bytes

        async with asyncio.TaskGroup() as group:
            for _ in range(500):
                group.create_task(check())
        await quiet(engine)
        loaded, recalled = outcomes(engine)
        assert recalled > 150
        assert loaded == count
        assert lost(engine) == []
        await evict(engine, "0")  # so that what is lost is told
        for worker in engine.state()["workers"]:
            assert worker["lost_bytes"] < 256 * 1024
            assert worker["restarts"] == 0


async def test_one_of_several_copies_that_is_evicted_is_no_way_back(tmp_path):
    async with recalling(tmp_path, 1, workers=2) as engine:
        residents, loading = residents_of(engine), cache_of(engine).loading
        first = residents.current(ModelKey("0"))
        second = await loading.copy(first, "wanted")
        residents.hold(second)
        await evict(engine)
        residents.unhold(second)
        assert residents.copies(ModelKey("0")) == (second,)
        assert residents.kept.get(ModelKey("0")) is None
        await evict(engine)
        assert residents.kept.get(ModelKey("0")) is second


async def test_a_pinned_or_leased_model_never_leaves_for_one_and_the_rest_is_waited_for(tmp_path):
    async with recalling(tmp_path, 3) as engine:
        residents, cache = residents_of(engine), cache_of(engine)
        sizes = {entry.key: entry.loaded.resident_bytes for entry in residents}
        small, leased, pinned = sorted(sizes, key=sizes.__getitem__)
        await evict(engine, small)
        residents.set_budget(residents.ledger.resident_bytes + 100)
        residents.pin(pinned)
        async with cache.lease(leased, asyncio.get_running_loop().time() + 10):
            waiting = asyncio.create_task(right(engine, int(small)))
            await eventually(lambda: residents.is_waited_for)
            assert not residents.current(small)
        assert await waiting
        assert not residents.current(leased)
        for key in (leased, small, leased):
            assert await right(engine, int(key))
        assert residents.current(pinned).pinned
        assert outcomes(engine) == (3, 4)


async def test_a_load_that_waits_for_room_is_not_starved_by_recalls(tmp_path):
    drop(tmp_path / "models", "large", booster(50, dart=True).members)
    large = ModelKey("large")
    async with recalling(tmp_path, 9) as engine:
        residents, stopped = residents_of(engine), asyncio.Event()
        await ask(engine, large)
        large_bytes = residents.current(large).loaded.resident_bytes
        await evict(engine)
        residents.set_budget(large_bytes + 24_000)

        async def go_on(seed: int) -> None:
            while not stopped.is_set():
                assert await right(engine, seed)
                seed = (seed + 2) % 9

        async with asyncio.TaskGroup() as group:
            for seed in (0, 1):
                group.create_task(go_on(seed))
            for _ in range(5):
                recalled = outcomes(engine)[1]
                await eventually(lambda: outcomes(engine)[1] > recalled + 20, 0.02)  # noqa: B023
                await ask(engine, large)
                await cache_of(engine).unload(large)
            stopped.set()


async def test_who_was_kept_by_a_worker_that_ended_is_loaded(tmp_path):
    async with recalling(tmp_path, 2) as engine:
        await evict(engine)
        pid = engine.state()["workers"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: engine.state()["workers"][0]["pid"] not in {pid, None})
        assert await right(engine, 0)
        assert outcomes(engine) == (3, 0)


async def test_who_was_unloaded_on_request_is_loaded_whether_it_was_there_or_kept(tmp_path):
    async with recalling(tmp_path, 2) as engine:
        await evict(engine, "1")
        assert await cache_of(engine).unload(ModelKey("0"))
        assert not await cache_of(engine).unload(ModelKey("1"))
        assert await right(engine, 0)
        assert await right(engine, 1)
        assert outcomes(engine) == (4, 0)


async def test_an_overwritten_or_deleted_object_is_noticed_as_if_it_had_stayed(tmp_path):
    models, key = tmp_path / "models", ModelKey("0")
    async with recalling(tmp_path, 2) as engine:
        kept = residents_of(engine).kept
        await evict(engine)
        drop(models, key, booster(5).members)
        kept.get(key).check_at = 0.0  # as after half of `refresh_seconds`: asked behind the answer
        assert await right(engine, 0)
        assert outcomes(engine) == (2, 1)
        new = booster(5).prediction
        await eventually(lambda: outcomes(engine) == (3, 1))
        assert await ask(engine, key) == new
        await evict(engine)
        drop(models, key, booster(6).members)
        kept.get(key).fresh_until = 0.0  # as after the whole of it: nobody is answered before
        assert await ask(engine, key) == booster(6).prediction
        await evict(engine)
        (models / key).unlink()
        kept.get(key).check_at = 0.0
        assert await ask(engine, key) == booster(6).prediction
        await eventually(lambda: not residents_of(engine).current(key))
        with pytest.raises(ArtifactUnavailable):
            await ask(engine, key)
        kept.get(ModelKey("1")).fresh_until = 0.0
        (models / "1").unlink()
        with pytest.raises(ArtifactUnavailable):
            await ask(engine, "1")


async def test_what_is_evicted_while_the_store_is_asked_is_not_recalled_in_its_old_version(
    tmp_path,
):
    async with recalling(tmp_path, 1) as engine:
        cache = cache_of(engine)
        cache._freshness._store = store = SlowHeads(cache._freshness._store)
        drop(tmp_path / "models", "0", booster(5).members)
        refreshing = asyncio.create_task(cache.refresh(ModelKey("0")))
        await store.asked.wait()
        await evict(engine)
        store.gate.set()
        await refreshing
        assert await ask(engine, "0") == booster(5).prediction


class SlowHeads:
    """A store that says what is current once the gate is open."""

    def __init__(self, store: Versions) -> None:
        self._store, self.asked, self.gate = store, asyncio.Event(), asyncio.Event()

    async def head(self, key: ModelKey) -> ArtifactVersion:
        self.asked.set()
        await self.gate.wait()
        return await self._store.head(key)


async def test_who_has_limits_and_what_is_no_flat_forest_is_loaded(tmp_path):
    drop(tmp_path / "models", "acme/a", booster(5).members)
    drop(tmp_path / "models", "dart", booster(6, dart=True).members)
    limits = [{"pattern": "acme", "requests_per_second": 1000}]
    async with recalling(tmp_path, 1, tenant_by="1", limits=limits) as engine:
        for turn in range(2):
            assert await ask(engine, "acme/a") == booster(5).prediction
            assert await ask(engine, "dart") == pytest.approx(booster(6).prediction)
            assert await right(engine, 0)
            assert outcomes(engine) == (3 + 2 * turn, turn)
            await evict(engine)


@pytest.mark.parametrize("setting", [{"churn_seconds": 60.0}, {"compile_trees": "on"}])
async def test_where_evictions_are_weighed_or_trees_compiled_it_is_loaded(tmp_path, setting):
    async with recalling(tmp_path, 2, **setting) as engine:
        await evict(engine)
        assert await right(engine, 0)
        assert outcomes(engine) == (3, 0)
