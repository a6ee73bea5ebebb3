"""Real workers, real models: answers are right; a death loses only what ran there."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mme.config import WorkerConfig
from mme.errors import LoadFailed, Overloaded, WorkerLost
from mme.metrics import Metrics
from mme.workers.pool import LoadedModel, LoadRequest, Pool
from mme.workers.process import WorkerStartError
from mme.workers.protocol import Answered, Ask, Faulted
from mme.workers.spec import worker_environment
from tests.eventually import eventually
from tests.models import CSV, booster, spinner

SPIN = b"[[1000000000.0]]"  # longer than any test


@asynccontextmanager
async def running_pool(workers: int = 1, **settings: object) -> AsyncIterator[Pool]:
    lost: list[str] = []
    pool = Pool(
        WorkerConfig(**{"heartbeat_seconds": 0.1, **settings}),
        workers=workers,
        threads=1,
        metrics=Metrics("e", "v"),
        on_lost=lambda residencies, suspects, cause: lost.append(cause),
    )
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def artifact(root: Path, name: str, members: dict[str, bytes]) -> str:
    directory = root / name
    directory.mkdir()
    for member, data in members.items():
        (directory / member).write_bytes(data)
    return str(directory)


def request(model: str, name: str, directory: str) -> LoadRequest:
    return LoadRequest(model=model, name=name, directory=directory, size_bytes=1)


async def load(pool: Pool, root: Path, seed: int) -> LoadedModel:
    directory = artifact(root, f"model-{seed}", booster(seed).members)
    return await pool.load(request(f"digest-{seed}", f"model-{seed}", directory))


async def load_spinner(pool: Pool, root: Path) -> LoadedModel:
    directory = artifact(root, "spinner", {"model.pt": spinner()})
    return await pool.load(request("spinner", "spinner", directory))


def worker_pid(pool: Pool) -> int:
    return pool.describe()[0]["pid"]


async def running(pool: Pool) -> None:
    """Returns once the worker has something to do."""
    await eventually(lambda: pool.describe()[0]["running"])


async def test_a_loaded_model_predicts_what_its_framework_predicts_and_is_measured(tmp_path):
    async with running_pool() as pool:
        loaded = await load(pool, tmp_path, 1)
        outcome = await pool.predict(loaded.residency, Ask(CSV, "text/csv", "text/csv"))
        assert isinstance(outcome.result, Answered)
        assert float(outcome.result.body) == pytest.approx(booster(1).prediction, rel=1e-6)
        assert loaded.framework == "xgboost"
        assert loaded.resident_bytes > 1_000
        assert outcome.predict_seconds > 0


async def test_an_unloaded_model_is_gone_and_its_worker_serves_others(tmp_path):
    async with running_pool() as pool:
        first, second = await load(pool, tmp_path, 1), await load(pool, tmp_path, 2)
        await pool.unload([first.residency])
        with pytest.raises(WorkerLost) as lost:
            await pool.predict(first.residency, Ask(CSV, "text/csv"))
        assert not lost.value.started
        assert isinstance(
            (await pool.predict(second.residency, Ask(CSV, "text/csv"))).result, Answered
        )


async def test_models_spread_over_the_workers(tmp_path):
    async with running_pool(workers=2) as pool:
        for seed in range(4):
            await load(pool, tmp_path, seed)
        assert [worker["models"] for worker in pool.describe()] == [2, 2]


async def test_a_corrupt_model_fails_alone_with_a_reason(tmp_path):
    async with running_pool() as pool:
        good = await load(pool, tmp_path, 1)
        directory = artifact(tmp_path, "bad", {"xgboost-model": b"{\x00 no booster"})
        with pytest.raises(LoadFailed, match=r"\S"):
            await pool.load(request("bad", "bad", directory))
        assert isinstance(
            (await pool.predict(good.residency, Ask(CSV, "text/csv"))).result, Answered
        )


async def test_a_bad_payload_is_a_fault_with_a_status_and_no_traceback(tmp_path):
    async with running_pool() as pool:
        loaded = await load(pool, tmp_path, 1)
        result = (await pool.predict(loaded.residency, Ask(b"1,2", "text/csv"))).result
        assert isinstance(result, Faulted)
        assert result.status == 400
        assert "Feature size" in result.message
        assert "Traceback" not in result.message


async def test_what_waits_while_the_worker_is_busy_goes_as_one_batch(tmp_path):
    async with running_pool() as pool:
        spin, loaded = await load_spinner(pool, tmp_path), await load(pool, tmp_path, 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(pool.predict(spin.residency, Ask(b"[[20000.0]]", "application/json")))
            group.create_task(pool.predict(spin.residency, Ask(b"[[1.0]]", "application/json")))
            await running(pool)
            asked = [
                group.create_task(pool.predict(loaded.residency, Ask(CSV, "text/csv")))
                for _ in range(10)
            ]
        outcomes = [task.result() for task in asked]
        assert {outcome.predict_seconds for outcome in outcomes} == {outcomes[0].predict_seconds}


async def test_a_worker_killed_mid_prediction_loses_that_request_and_no_other(tmp_path):
    async with running_pool() as pool:
        spin, loaded = await load_spinner(pool, tmp_path), await load(pool, tmp_path, 1)
        killed = asyncio.create_task(pool.predict(spin.residency, Ask(SPIN, "application/json")))
        await running(pool)
        waiting = [
            asyncio.create_task(pool.predict(loaded.residency, Ask(CSV, "text/csv")))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        os.kill(worker_pid(pool), signal.SIGKILL)
        with pytest.raises(WorkerLost, match="SIGKILL") as lost:
            await killed
        assert lost.value.started
        for task in waiting:
            with pytest.raises(WorkerLost) as lost:
                await task
            assert not lost.value.started
        assert not loaded.residency.alive
        again = await pool.load(request("digest-1", "model-1", str(tmp_path / "model-1")))
        assert isinstance(
            (await pool.predict(again.residency, Ask(CSV, "text/csv"))).result, Answered
        )
        assert pool.describe()[0]["restarts"] == 1


async def test_a_worker_killed_mid_load_fails_that_load(tmp_path):
    async with running_pool() as pool:
        directory = artifact(tmp_path, "spinner", {"model.pt": spinner()})
        loading = asyncio.create_task(pool.load(request("spinner", "spinner", directory)))
        await eventually(lambda: pool.describe()[0]["loading"])
        os.kill(worker_pid(pool), signal.SIGKILL)
        with pytest.raises(WorkerLost):
            await loading


async def test_a_prediction_that_runs_over_its_limit_ends_its_worker(tmp_path):
    async with running_pool(invocation_seconds=0.2, grace_seconds=0.1) as pool:
        spin = await load_spinner(pool, tmp_path)
        with pytest.raises(WorkerLost, match=r"ran for more than 0\.3 s"):
            await pool.predict(spin.residency, Ask(SPIN, "application/json"))


async def test_a_silent_worker_is_ended_and_replaced(tmp_path):
    async with running_pool(silence_seconds=0.5) as pool:
        loaded = await load(pool, tmp_path, 1)
        os.kill(worker_pid(pool), signal.SIGSTOP)
        with pytest.raises(WorkerLost, match="no sign of life"):
            await pool.predict(loaded.residency, Ask(CSV, "text/csv"))


async def test_a_request_given_up_before_it_was_sent_is_dropped(tmp_path):
    async with running_pool() as pool:
        spin = await load_spinner(pool, tmp_path)
        tasks = [
            asyncio.create_task(pool.predict(spin.residency, Ask(SPIN, "application/json")))
            for _ in range(2)
        ]
        await running(pool)
        third = asyncio.create_task(pool.predict(spin.residency, Ask(SPIN, "application/json")))
        fourth = asyncio.create_task(pool.predict(spin.residency, Ask(SPIN, "application/json")))
        await asyncio.sleep(0)
        assert pool.waiting_count >= 1
        for task in (third, fourth):
            task.cancel()
        await asyncio.wait([third, fourth])
        assert pool.waiting_count == 0
        os.kill(worker_pid(pool), signal.SIGKILL)
        await asyncio.wait(tasks)
        assert all(isinstance(task.exception(), WorkerLost) for task in tasks)


async def test_a_full_queue_refuses_instead_of_growing(tmp_path):
    async with running_pool(queue_per_model=2, batch_requests=1) as pool:
        spin = await load_spinner(pool, tmp_path)
        tasks = [
            asyncio.create_task(pool.predict(spin.residency, Ask(SPIN, "application/json")))
            for _ in range(4)
        ]
        await running(pool)
        with pytest.raises(Overloaded):
            await pool.predict(spin.residency, Ask(SPIN, "application/json"))
        os.kill(worker_pid(pool), signal.SIGKILL)
        await asyncio.wait(tasks)
        assert {type(task.exception()) for task in tasks} == {WorkerLost}


async def test_a_worker_that_cannot_start_stops_the_pool_and_leaves_nothing():
    pool = Pool(
        WorkerConfig(preload=("no-such-framework",)),
        workers=2,
        threads=1,
        metrics=Metrics("e", "v"),
        on_lost=lambda *_: None,
    )
    with capture_logs() as logs, pytest.raises(WorkerStartError, match="status 1"):
        await pool.start()
    why = [log["line"] for log in logs if log["event"] == "worker_output"]
    assert any("no-such-framework" in line for line in why)


async def test_a_worker_sees_no_credentials_and_as_many_threads_as_it_was_given(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    monkeypatch.setenv("DATABASE_PASSWORD", "s3cr3t")
    async with running_pool() as pool:
        seen = await asyncio.to_thread(Path(f"/proc/{worker_pid(pool)}/environ").read_bytes)
        assert b"s3cr3t" not in seen
        assert b"OMP_NUM_THREADS=1\0" in seen


def test_sagemaker_variables_reach_the_worker():
    kept = worker_environment({"SAGEMAKER_PROGRAM": "x.py", "AWS_PROFILE": "p"}, threads=3)
    assert kept["SAGEMAKER_PROGRAM"] == "x.py"
    assert "AWS_PROFILE" not in kept
    assert kept["OPENBLAS_NUM_THREADS"] == "3"


async def test_a_worker_ends_when_its_server_is_killed(tmp_path):
    script = (
        "import asyncio, sys\n"
        "from mme.config import WorkerConfig\n"
        "from mme.metrics import Metrics\n"
        "from mme.workers.pool import Pool\n"
        "async def main():\n"
        "    pool = Pool(WorkerConfig(), workers=1, threads=1, metrics=Metrics('e', 'v'),\n"
        "                on_lost=lambda *_: None)\n"
        "    await pool.start()\n"
        "    print(pool.describe()[0]['pid'], flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # the next server would tidy up there
    )
    pid = int(await server.stdout.readline())
    server.kill()
    await server.wait()
    await eventually(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
