"""The engine over a real directory store and real workers: loads, evicts, refreshes, survives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import random
import signal
from statistics import median

import msgspec
import pytest
import xgboost

from mme import ModelKey
from mme.cache import model_cache
from mme.errors import (
    ArtifactRefused,
    ArtifactUnavailable,
    Draining,
    InvalidRequest,
    InvocationTimeout,
    LoadFailed,
    MemoryRefused,
    ModelError,
    ModelNotReady,
    PredictionFailed,
    WorkerLost,
)
from tests.engines import (
    ask,
    assert_ledger_is_exact,
    cache_of,
    drop,
    invocation,
    quiet,
    running_engine,
    tarball,
)
from tests.eventually import eventually
from tests.models import booster, spinner

SPIN = b"[[1000000000.0]]"


def events(engine, kind):
    return [event["model"] for event in engine.state()["events"] if event["kind"] == kind]


def loads(engine):
    text = engine.metrics_text()[0].decode()
    line = next(
        line for line in text.splitlines() if line.startswith('mme_loads_total{outcome="loaded"}')
    )
    return int(float(line.split()[1]))


async def test_a_dropped_model_answers_at_once_and_then_from_memory(tmp_path):
    async with running_engine(tmp_path) as engine:
        drop(tmp_path / "models", "a.tar.gz", booster(1).members)
        cold = await engine.invoke(invocation("a.tar.gz"))
        hot = await engine.invoke(invocation("a.tar.gz"))
        assert float(cold.body) == pytest.approx(booster(1).prediction, rel=1e-6)
        assert cold.body == hot.body
        assert (cold.cache_hit, hot.cache_hit) == (False, True)
        assert cold.timings.load_seconds > 0
        assert hot.variant == "AllTraffic"


async def test_a_hundred_callers_of_a_cold_model_make_one_load(tmp_path):
    async with running_engine(tmp_path) as engine:
        drop(tmp_path / "models", "a.tar.gz", booster(1).members)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(engine, "a.tar.gz")) for _ in range(100)]
        assert {task.result() for task in tasks} == {tasks[0].result()}
        assert tasks[0].result() == pytest.approx(booster(1).prediction, rel=1e-6)
        assert loads(engine) == 1


@pytest.mark.timeout(120)
async def test_three_hundred_models_through_room_for_twenty_answer_right(tmp_path):
    models = tmp_path / "models"
    trained = [booster(seed, trees=30, depth=4) for seed in range(300)]
    for seed, model in enumerate(trained):
        drop(models, f"tenant-{seed}/model.tar.gz", model.members)
    async with running_engine(tmp_path, memory=64 * 1024 * 1024) as probe:
        for seed in range(9):
            await ask(probe, f"tenant-{seed}/model.tar.gz")
        one = median(model["bytes"] for model in probe.state()["models"])
    order = random.Random(7)
    async with running_engine(tmp_path, memory=int(20 * one), workers=2) as engine:
        turns = asyncio.Semaphore(8)

        async def check(seed):
            async with turns:
                answer = await ask(engine, f"tenant-{seed}/model.tar.gz")
            assert answer == pytest.approx(trained[seed].prediction, rel=1e-6)
            memory = engine.state()["memory"]
            charged = memory["reserved_bytes"] + memory["resident_bytes"] + memory["leaving_bytes"]
            assert charged <= memory["budget_bytes"]

        async with asyncio.TaskGroup() as group:
            for _ in range(900):
                group.create_task(check(order.randrange(300)))
        await quiet(engine)
        assert len(engine.state()["models"]) <= 30
        assert len(events(engine, "evicted")) > 100


async def test_the_state_told_a_little_at_a_time_is_the_state(tmp_path, monkeypatch):
    monkeypatch.setattr(model_cache, "_SLICE", 2)  # several of them
    async with running_engine(tmp_path) as engine:
        for seed in range(6):
            told = json.loads(msgspec.json.encode(await engine.tell_state()))
            known = json.loads(msgspec.json.encode(engine.state()))
            for model in (*told["models"], *known["models"]):
                del model["age_seconds"], model["idle_seconds"]
            assert told["models"] == known["models"]
            assert len(told["models"]) == seed
            assert told.keys() == known.keys()
            drop(tmp_path / "models", f"{seed}.tar.gz", booster(1).members)
            await ask(engine, f"{seed}.tar.gz")


async def test_an_overwritten_model_switches_within_the_refresh_time_without_a_failed_answer(
    tmp_path,
):
    models = tmp_path / "models"
    drop(models, "a.tar.gz", booster(1).members)
    async with running_engine(tmp_path, refresh_seconds=0.4) as engine:
        loop = asyncio.get_running_loop()
        await ask(engine, "a.tar.gz")
        for seed in (2, 3, 4):
            drop(models, "a.tar.gz", booster(seed).members)
            before, written_at = booster(seed - 1).prediction, loop.time()
            while True:
                asked_at = loop.time()
                answer = await ask(engine, "a.tar.gz")
                if answer == pytest.approx(booster(seed).prediction, rel=1e-6):
                    break
                assert answer == pytest.approx(before, rel=1e-6)
                assert asked_at - written_at <= 0.4
        await quiet(engine)
        assert [model["model"] for model in engine.state()["models"]] == ["a.tar.gz"]


async def test_a_refresh_brings_the_newest_version_at_once_and_each_answer_names_its_own(tmp_path):
    models, key = tmp_path / "models", ModelKey("a.tar.gz")
    async with running_engine(tmp_path, refresh_seconds=3600) as engine:
        versions = set()
        for seed in (1, 2, 3):
            drop(models, key, booster(seed).members)
            await cache_of(engine).refresh(key)  # of what is not in memory: nothing to do
            reply = await engine.invoke(invocation(key))
            assert float(reply.body) == pytest.approx(booster(seed).prediction, rel=1e-6)
            versions.add(reply.version)
        assert len(versions) == 3
        drop(models, key, b"no tarball")
        with pytest.raises(ModelError):
            await cache_of(engine).refresh(key)
        assert (await engine.invoke(invocation(key))).version in versions
        (models / key).unlink()
        with pytest.raises(ArtifactUnavailable):
            await cache_of(engine).refresh(key)
        with pytest.raises((ArtifactUnavailable, ModelError)):  # or that the last one was bad
            await ask(engine, key)
        await quiet(engine)


async def test_a_deleted_model_stops_answering_after_the_refresh_time(tmp_path):
    drop(tmp_path / "models", "a.tar.gz", booster(1).members)
    async with running_engine(tmp_path, refresh_seconds=0.2) as engine:
        await ask(engine, "a.tar.gz")
        (tmp_path / "models" / "a.tar.gz").unlink()
        await asyncio.sleep(0.2)
        with pytest.raises(ArtifactUnavailable):
            await ask(engine, "a.tar.gz")
        await quiet(engine)
        assert engine.state()["memory"]["resident_bytes"] == 0


async def test_a_store_that_goes_away_leaves_residents_answering(tmp_path):
    models = tmp_path / "models"
    drop(models, "a.tar.gz", booster(1).members)
    async with running_engine(tmp_path, refresh_seconds=0.1) as engine:
        await ask(engine, "a.tar.gz")
        models.rename(tmp_path / "gone")
        for _ in range(3):
            await asyncio.sleep(0.1)
            assert await ask(engine, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)
        assert engine.readiness() == []


async def test_a_bad_overwrite_keeps_the_old_version_answering(tmp_path):
    models = tmp_path / "models"
    drop(models, "a.tar.gz", booster(1).members)
    async with running_engine(tmp_path, refresh_seconds=0.1) as engine:
        await ask(engine, "a.tar.gz")
        drop(models, "a.tar.gz", b"no tarball")
        for _ in range(3):
            await asyncio.sleep(0.1)
            assert await ask(engine, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)
        assert events(engine, "failed") == ["a.tar.gz"]


@pytest.mark.parametrize(
    "data", [tarball({"xgboost-model": b"\x00\x01 no booster"}), b"this is no tarball"]
)
async def test_a_bad_model_costs_one_load_a_back_off_and_is_mended_by_a_new_version(tmp_path, data):
    models = tmp_path / "models"
    drop(models, "a.tar.gz", data)
    async with running_engine(tmp_path, failure_seconds=60.0) as engine:
        messages = set()
        for _ in range(20):
            with pytest.raises(ModelError) as failed:
                await ask(engine, "a.tar.gz")
            messages.add(str(failed.value))
        assert len(messages) == 1
        await asyncio.sleep(1.0)  # how long a mended model may go unnoticed
        with pytest.raises(ModelError):
            await ask(engine, "a.tar.gz")
        assert events(engine, "failed") == ["a.tar.gz"]
        drop(models, "a.tar.gz", booster(1).members)
        await asyncio.sleep(1.0)
        assert await ask(engine, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"this is no tarball", ArtifactRefused),
        (tarball(booster(1).members)[:-20], ArtifactRefused),
        (tarball({}), ArtifactRefused),
        (tarball({"README.md": b"nothing to load"}), LoadFailed),
        (tarball({"model.pt": b"PK no torch"}), LoadFailed),
    ],
)
async def test_a_tarball_that_cannot_be_served_says_why_and_leaves_nothing(tmp_path, data, error):
    drop(tmp_path / "models", "a.tar.gz", data)
    async with running_engine(tmp_path) as engine:
        with pytest.raises(error, match=r"\S+"):
            await ask(engine, "a.tar.gz")
        await quiet(engine)
        assert engine.state()["models"] == []
        assert not list((tmp_path / "cache").glob("incoming/*"))


async def test_a_missing_model_is_served_as_soon_as_it_is_dropped(tmp_path):
    async with running_engine(tmp_path) as engine:
        with pytest.raises(ArtifactUnavailable):
            await ask(engine, "late.tar.gz")
        drop(tmp_path / "models", "late.tar.gz", booster(1).members)
        assert await ask(engine, "late.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)


async def test_no_target_model_and_an_unknown_endpoint_are_told_apart(tmp_path):
    async with running_engine(tmp_path) as engine:
        with pytest.raises(InvalidRequest, match="is missing a target model header") as missing:
            await engine.invoke(invocation(None))
        assert missing.value.code == "TARGET_MODEL_HEADER_MISSING"
        with pytest.raises(
            InvalidRequest, match="Endpoint other of account 000000000000 not found"
        ):
            await engine.invoke(invocation("a", endpoint="other"))
        with pytest.raises(InvalidRequest, match="Variant blue"):
            await engine.invoke(invocation("a", target_variant="blue"))
        with pytest.raises(InvalidRequest, match="target container hostname"):
            await engine.invoke(invocation("a", target_container="c"))


async def test_a_model_larger_than_the_budget_is_refused_with_both_numbers(tmp_path):
    drop(tmp_path / "models", "a.tar.gz", booster(1, trees=200, depth=6).members)
    async with running_engine(tmp_path, memory=100_000) as engine:
        with pytest.raises(MemoryRefused, match="100000") as refused:
            await ask(engine, "a.tar.gz")
        assert refused.value.original_status == 507


async def test_a_model_in_use_is_not_evicted_and_the_next_one_waits_for_it(tmp_path):
    models = tmp_path / "models"
    drop(models, "spin.tar.gz", {"model.pt": spinner()})
    drop(models, "a.tar.gz", booster(1, trees=400, depth=6, dart=True).members)
    async with running_engine(tmp_path, workers=2, memory=64 * 1024 * 1024) as engine:
        await engine.load(ModelKey("spin.tar.gz"))
        await engine.load(ModelKey("a.tar.gz"))
        sizes = {model["model"]: model["bytes"] for model in engine.state()["models"]}
    budget = int(max(sizes.values()) * 1.1)
    async with running_engine(tmp_path, workers=2, memory=budget) as engine:
        await engine.load(ModelKey("spin.tar.gz"))
        state = engine.state()
        if state["memory"]["resident_bytes"] + sizes["a.tar.gz"] <= budget:
            pytest.fail("both fit: this shows nothing")
        busy = asyncio.create_task(
            engine.invoke(
                invocation("spin.tar.gz", b"[[20000.0]]", content_type="application/json")
            )
        )
        assert await ask(engine, "a.tar.gz") == pytest.approx(
            booster(1, trees=400, depth=6, dart=True).prediction, rel=1e-6
        )
        assert busy.done(), "the model was evicted under its request"
        assert (await busy).body


async def test_a_caller_whose_window_closes_is_told_to_come_again_and_the_load_goes_on(tmp_path):
    drop(tmp_path / "models", "a.tar.gz", {"model.pt": spinner()})
    async with running_engine(tmp_path) as engine:  # a cold torch takes longer than the window
        with pytest.raises(ModelNotReady):
            await ask(engine, "a.tar.gz", seconds=0.05)
        await quiet(engine)
        assert [model["model"] for model in engine.state()["models"]] == ["a.tar.gz"]


async def test_a_prediction_past_its_deadline_is_answered_in_time(tmp_path):
    drop(tmp_path / "models", "spin.tar.gz", {"model.pt": spinner()})
    async with running_engine(tmp_path, invocation_seconds=1.0, grace_seconds=0.1) as engine:
        await engine.load(ModelKey("spin.tar.gz"))
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        with pytest.raises(InvocationTimeout):
            await engine.invoke(
                invocation("spin.tar.gz", SPIN, content_type="application/json", seconds=0.3)
            )
        assert loop.time() - asked_at < 1.0


async def test_a_killed_worker_loses_what_ran_and_everything_else_is_reloaded_when_asked_for(
    tmp_path,
):
    models = tmp_path / "models"
    drop(models, "spin.tar.gz", {"model.pt": spinner()})
    drop(models, "a.tar.gz", booster(1).members)
    async with running_engine(tmp_path) as engine:
        await ask(engine, "a.tar.gz")
        await engine.load(ModelKey("spin.tar.gz"))
        running = asyncio.create_task(
            engine.invoke(invocation("spin.tar.gz", SPIN, content_type="application/json"))
        )
        await eventually(lambda: engine.state()["workers"][0]["running"])
        waiting = [asyncio.create_task(ask(engine, "a.tar.gz")) for _ in range(5)]
        await asyncio.sleep(0)
        os.kill(engine.state()["workers"][0]["pid"], signal.SIGKILL)
        with pytest.raises(WorkerLost, match="SIGKILL"):
            await running
        for task in waiting:
            assert await task == pytest.approx(booster(1).prediction, rel=1e-6)
        assert_ledger_is_exact(engine)
        assert sorted(events(engine, "lost")) == ["a.tar.gz", "spin.tar.gz"]


async def test_a_model_that_ends_worker_after_worker_is_quarantined_and_others_go_on(tmp_path):
    models = tmp_path / "models"
    drop(models, "spin.tar.gz", {"model.pt": spinner()})
    drop(models, "a.tar.gz", booster(1).members)
    async with running_engine(
        tmp_path, invocation_seconds=0.2, grace_seconds=0.05, heartbeat_seconds=0.1
    ) as engine:
        for _ in range(3):
            with pytest.raises((WorkerLost, InvocationTimeout)):
                await engine.invoke(
                    invocation("spin.tar.gz", SPIN, content_type="application/json", seconds=10)
                )
        with pytest.raises(LoadFailed, match="quarantined"):
            await ask(engine, "spin.tar.gz", body=b"[[1.0]]", content_type="application/json")
        assert await ask(engine, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)


async def test_a_bad_payload_fails_only_itself_in_its_batch(tmp_path):
    drop(tmp_path / "models", "a.tar.gz", booster(1).members)
    async with running_engine(tmp_path) as engine:
        await ask(engine, "a.tar.gz")
        bodies = [b"0.1,0.2,0.3,0.4", b"1,2", b"words", b""] * 10
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(outcome(engine, body)) for body in bodies]
        for task, body in zip(tasks, bodies, strict=True):
            result = task.result()
            if body == bodies[0]:
                assert result == pytest.approx(booster(1).prediction, rel=1e-6)
            else:
                assert isinstance(result, PredictionFailed)
                assert 400 <= result.original_status < 500


async def outcome(engine, body):
    try:
        return await ask(engine, "a.tar.gz", body=body)
    except PredictionFailed as error:
        return error


async def test_a_restart_serves_from_disk_without_unpacking_again(tmp_path):
    drop(tmp_path / "models", "a.tar.gz", booster(1).members)
    async with running_engine(tmp_path) as engine:
        await ask(engine, "a.tar.gz")
    async with running_engine(tmp_path) as engine:
        assert await ask(engine, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)
        assert "mme_fetched_bytes_total 0.0" in engine.metrics_text()[0].decode()


async def test_memory_that_something_else_takes_shrinks_the_cache(tmp_path):
    models = tmp_path / "models"
    for seed in range(4):
        drop(models, f"{seed}.tar.gz", booster(seed).members)
    async with running_engine(tmp_path) as engine:
        for seed in range(4):
            await ask(engine, f"{seed}.tar.gz")
        residents = cache_of(engine).residents
        used = engine.state()["memory"]["resident_bytes"]
        residents.set_budget(used - 1)
        await quiet(engine)
        assert events(engine, "evicted") == ["0.tar.gz"]
        residents.set_budget(10**9)


async def test_trust_data_refuses_what_would_run_code(tmp_path):
    pickled = pickle.dumps(xgboost.Booster(model_file=bytearray(booster(1).data)))
    drop(tmp_path / "models", "a.tar.gz", {"model.pkl": pickled})
    async with running_engine(tmp_path, trust="data") as engine:
        with pytest.raises(LoadFailed, match="trust"):
            await ask(engine, "a.tar.gz")
    async with running_engine(tmp_path, trust="code") as engine:
        assert await ask(engine, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)


async def test_what_a_script_prints_goes_to_the_log_with_its_models_name(tmp_path, capsys):
    script = b"""
import json
print("module read")
def model_fn(model_dir):
    print("model loaded")
    return None
def transform_fn(model, body, content_type, accept):
    print("asked for", body)
    if body == b"raise":
        raise KeyError("no such thing")
    return body, "text/plain"
"""
    drop(tmp_path / "models", "a.tar.gz", {"code/inference.py": script})
    async with running_engine(tmp_path) as engine:
        reply = await engine.invoke(invocation("a.tar.gz", b"hello", content_type="x/y"))
        assert (reply.body, reply.content_type) == (b"hello", "text/plain")
        with pytest.raises(PredictionFailed, match="KeyError") as failed:
            await engine.invoke(invocation("a.tar.gz", b"raise", content_type="x/y"))
        assert "Traceback" not in str(failed.value)
    lines = [line for line in capsys.readouterr().out.splitlines() if "model_printed" in line]
    for said in ("module read", "model loaded", "asked for b'hello'", "Traceback"):
        assert [line for line in lines if said in line and "model=a.tar.gz" in line], said


async def test_an_unload_asked_for_returns_when_the_memory_is_back(tmp_path):
    drop(tmp_path / "models", "a.tar.gz", booster(1).members)
    async with running_engine(tmp_path) as engine:
        cache, key = cache_of(engine), ModelKey("a.tar.gz")
        assert not await cache.unload(key)
        await engine.load(key)
        assert await cache.unload(key)
        assert engine.state()["memory"]["resident_bytes"] == 0
        assert events(engine, "unloaded") == ["a.tar.gz"]
        assert await ask(engine, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)


async def test_a_pinned_model_stays_and_all_pinned_is_a_refusal_at_once(tmp_path):
    models = tmp_path / "models"
    for seed in range(3):
        drop(models, f"{seed}.tar.gz", booster(seed, trees=300, depth=4, dart=True).members)
    async with running_engine(tmp_path) as engine:
        await engine.load(ModelKey("0.tar.gz"))
        size = engine.state()["memory"]["resident_bytes"]
    async with running_engine(tmp_path, memory=int(size * 1.8)) as engine:
        residents = cache_of(engine).residents
        residents.pin(ModelKey("0.tar.gz"))
        await engine.load(ModelKey("0.tar.gz"))
        with pytest.raises(MemoryRefused, match="all others are pinned"):
            await ask(engine, "1.tar.gz")
        residents.unpin(ModelKey("0.tar.gz"))
        assert await ask(engine, "1.tar.gz") == pytest.approx(
            booster(1, trees=300, depth=4, dart=True).prediction, rel=1e-6
        )
        assert events(engine, "evicted") == ["0.tar.gz"]


async def test_shutting_down_in_the_middle_of_a_load_is_no_accident(tmp_path, capsys):
    drop(tmp_path / "models", "a.tar.gz", {"model.pt": spinner()})
    async with running_engine(tmp_path) as engine:
        loading = asyncio.create_task(engine.load(ModelKey("a.tar.gz")))
        await eventually(lambda: engine.state()["workers"][0]["loading"])
        await engine.__aexit__(None, None, None)
        with pytest.raises(Draining):
            await loading
        assert engine.state()["memory"]["reserved_bytes"] == 0
    assert "worker_ended" not in capsys.readouterr().out


class EndsItsWorkerOnce:
    """The disk tier, but the worker dies in the moment in which a loaded artifact is let go."""

    def __init__(self, engine):
        self.engine = engine
        self.artifacts = cache_of(engine).loading._artifacts
        self.done = False

    @contextlib.asynccontextmanager
    async def lease(self, key, pause):
        async with self.artifacts.lease(key, pause) as artifact:
            yield artifact
            if not self.done:
                self.done = True
                os.kill(self.engine.state()["workers"][0]["pid"], signal.SIGKILL)
                await eventually(lambda: self.engine.state()["workers"][0]["restarts"])


async def test_a_worker_that_dies_between_load_and_first_use_costs_a_second_load_only(tmp_path):
    drop(tmp_path / "models", "a.tar.gz", booster(1).members)
    async with running_engine(tmp_path) as engine:
        cache_of(engine).loading._artifacts = EndsItsWorkerOnce(engine)
        assert await ask(engine, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)
        assert engine.state()["failures"] == []
        assert_ledger_is_exact(engine)
