"""Memory is measured as it is, comes back, and where it does not its worker is replaced."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mme.config import WorkerConfig
from mme.domain import ModelKey
from mme.errors import WorkerLost
from mme.metrics import Metrics
from mme.workers.pool import LoadedModel, LoadRequest, Pool
from mme.workers.protocol import Answered, Ask
from mme.workers.slot import Residency
from tests.engines import ask, cache_of, drop, running_engine
from tests.eventually import eventually
from tests.models import CSV, booster
from tests.scripts import write_script

MEGABYTE = 1024**2
LEAKED_BYTES = 24 * MEGABYTE
LEAKING = f"""
import sys

def model_fn(model_dir):
    sys.modules.setdefault("leaked", []).append(b"x" * {LEAKED_BYTES})
    return "the model"

def transform_fn(model, data, content_type, accept):
    return "[1]"
"""
KEPT = """
def model_fn(model_dir):
    return "the model"

def transform_fn(model, data, content_type, accept):
    return "0.5"
"""
FALLING = """
def model_fn(model_dir):
    peak = b"x" * 64_000_000
    kept = peak[:8_000_000]
    return kept

def transform_fn(model, data, content_type, accept):
    return "[1]"
"""
MAPPING = """
import mmap

def model_fn(model_dir):
    with open(f"{model_dir}/weights-\\udcff", "rb") as file:
        weights = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    sum(weights[::4096])
    return weights

def transform_fn(model, data, content_type, accept):
    return "[1]"
"""
SHARING = {
    "mmap": """
import mmap

def model_fn(model_dir):
    weights = mmap.mmap(-1, 32_000_000)
    weights.write(b"x" * 32_000_000)
    return weights
""",
    "torch": """
import torch

def model_fn(model_dir):
    return torch.ones(8_000_000).share_memory_()
""",
}


@asynccontextmanager
async def running_pool(on_recycle=None, **settings: object) -> AsyncIterator[Pool]:
    pool = Pool(
        WorkerConfig(
            **{
                "heartbeat_seconds": 0.1,
                "recycle_bytes": 8 * MEGABYTE,
                "recycle_seconds": 0.0,
                **settings,
            }
        ),
        workers=1,
        threads=1,
        metrics=Metrics("e", "v"),
        on_lost=lambda *_: None,
        on_recycle=on_recycle,
    )
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


async def load(pool: Pool, directory: Path, model: str) -> LoadedModel:
    return await pool.load(
        LoadRequest(model=model, name=model, directory=str(directory), size_bytes=1)
    )


def booster_directory(root: Path) -> Path:
    directory = root / "booster"
    directory.mkdir()
    trained = booster(1, trees=200, depth=6, dart=True)
    (directory / trained.name).write_bytes(trained.data)
    return directory


async def leak(pool: Pool, root: Path) -> None:
    """Loads and unloads a model that keeps what it took."""
    leaking = await load(pool, write_script(root / "leaking", LEAKING), "leaking")
    await pool.unload([leaking.residency])


async def beats(pool: Pool, count: int = 3) -> None:
    """Returns when the worker has given so many signs of life: as often it was looked at."""
    [process] = pool._processes()
    for _ in range(count):
        last_sign_at = process.last_sign_at
        await eventually(lambda at=last_sign_at: process.last_sign_at > at)


async def predicted(pool: Pool, residency: Residency) -> float:
    outcome = await pool.predict(residency, Ask(CSV, "text/csv", "text/csv"))
    assert isinstance(outcome.result, Answered)
    return float(outcome.result.body)


class Mover:
    """What a cache does: loads a second copy elsewhere, unloads the first when its lease ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.pool: Pool
        self.current: Residency
        self.told: list[list[str]] = []
        self.lease = asyncio.Lock()
        self._moves: list[asyncio.Task[None]] = []

    def __call__(self, residencies: list[Residency]) -> None:
        self.told.append([residency.model for residency in residencies])
        self._moves += [asyncio.create_task(self._move(each)) for each in residencies]

    async def _move(self, residency: Residency) -> None:
        copy = await load(self.pool, self._directory, f"{residency.model}+")
        self.current = copy.residency
        async with self.lease:
            await self.pool.unload([residency])

    async def ask(self) -> float:
        async with self.lease:
            return await predicted(self.pool, self.current)


async def test_a_worker_that_lost_memory_is_replaced_and_every_request_is_answered(tmp_path):
    mover = Mover(write_script(tmp_path / "kept", KEPT))
    async with running_pool(mover) as pool:
        mover.pool = pool
        mover.current = (await load(pool, tmp_path / "kept", "kept")).residency
        before = pool.describe()[0]
        await leak(pool, tmp_path)
        answers = []
        while [worker["worker"] for worker in pool.describe()] != [1]:
            answers.append(await mover.ask())
        answers.append(await mover.ask())
        assert set(answers) == {answers[0]}
        assert mover.told == [["kept"]]
        [after] = pool.describe()
        assert after["pid"] != before["pid"]
        assert (after["models"], after["restarts"], after["lost_bytes"]) == (1, 0, 0)


async def test_a_leaving_worker_takes_no_more_loads(tmp_path):
    directory = write_script(tmp_path / "kept", KEPT)
    told: list[Residency] = []
    async with running_pool(told.extend) as pool:
        await load(pool, directory, "kept")
        await leak(pool, tmp_path)
        await eventually(lambda: told)
        later = await load(pool, directory, "later")
        assert later.residency.slot is not told[0].slot
        assert [worker["state"] for worker in pool.describe()] == ["leaving", "ready"]


async def test_nothing_is_loaded_into_a_worker_once_it_has_retired(tmp_path):
    directory = write_script(tmp_path / "kept", KEPT)
    async with running_pool() as pool:
        slot = (await load(pool, directory, "kept")).residency.slot
        late = asyncio.create_task(
            slot.load(
                LoadRequest(model="late", name="late", directory=str(directory), size_bytes=1)
            )
        )
        await asyncio.sleep(0)  # its files are being lent
        await slot.retire()
        held = slot.describe()["models"]
        await asyncio.wait([late])
        assert slot.describe()["models"] == held
        assert isinstance(late.exception(), WorkerLost)


async def test_a_worker_without_models_is_replaced_at_once(tmp_path):
    told: list[Residency] = []
    async with running_pool(told.extend) as pool:
        await leak(pool, tmp_path)
        assert pool.describe()[0]["lost_bytes"] >= 0.95 * LEAKED_BYTES  # other garbage left
        await eventually(lambda: [worker["worker"] for worker in pool.describe()] == [1])
        assert not told


@pytest.mark.parametrize(
    "settings",
    [
        {"on_recycle": None},
        {"recycle_bytes": 2 * LEAKED_BYTES},
        {"recycle_seconds": 3600.0},
    ],
)
async def test_a_worker_stays_if_nobody_would_move_or_it_lost_little_or_is_young(
    tmp_path, settings
):
    async with running_pool(**{"on_recycle": lambda _: None, **settings}) as pool:
        await leak(pool, tmp_path)
        await beats(pool)  # a replacement would have begun
        assert not [task for task in asyncio.all_tasks() if "recycle worker " in task.get_name()]
        assert [worker["state"] for worker in pool.describe()] == ["ready"]


async def test_a_successor_that_cannot_start_is_not_tried_again_at_each_beat(
    tmp_path, monkeypatch: pytest.MonkeyPatch
):
    async with running_pool(lambda _: None) as pool:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
        with capture_logs() as logs:
            await leak(pool, tmp_path)
            await eventually(lambda: logs)
            await beats(pool, 5)
        assert [entry["event"] for entry in logs] == ["worker_not_recycled"]
        assert [worker["state"] for worker in pool.describe()] == ["ready"]


async def test_a_worker_that_dies_while_it_leaves_has_one_successor(tmp_path):
    directory = write_script(tmp_path / "kept", KEPT)
    told: list[Residency] = []
    async with running_pool(told.extend) as pool:
        await load(pool, directory, "kept")
        await leak(pool, tmp_path)
        await eventually(lambda: told)
        told[0].slot._serving().kill("the test said so")
        await eventually(lambda: [worker["worker"] for worker in pool.describe()] == [1])


async def test_an_engine_moves_its_models_off_a_worker_that_lost_memory_and_answers_throughout(
    tmp_path,
):
    (tmp_path / "models").mkdir()
    for name, source in (("kept", KEPT), ("leaking", LEAKING)):
        members = {"code/inference.py": source.encode()}
        drop(tmp_path / "models", f"{name}.tar.gz", members)
    settings = {"recycle": 8 * MEGABYTE, "recycle_seconds": 0.0, "heartbeat_seconds": 0.1}
    async with running_engine(tmp_path, **settings) as engine:
        answers = [await ask(engine, "kept.tar.gz")]
        await engine.load(ModelKey("leaking.tar.gz"))
        async with asyncio.TaskGroup() as group:
            unloading = cache_of(engine).unload(ModelKey("leaking.tar.gz"))
            group.create_task(unloading)
            while [worker["worker"] for worker in engine.state()["workers"]] != [1]:
                answers.append(await ask(engine, "kept.tar.gz"))
        answers.append(await ask(engine, "kept.tar.gz"))
        assert set(answers) == {0.5}
        assert [worker["restarts"] for worker in engine.state()["workers"]] == [0]


async def test_what_models_are_charged_is_what_their_worker_has_grown_by(tmp_path):
    directory = booster_directory(tmp_path)
    async with running_pool() as pool:
        first = await load(pool, directory, "first")
        before_bytes = await private_bytes(pool, first)
        loaded = [await load(pool, directory, f"model-{number}") for number in range(40)]
        grown_bytes = await private_bytes(pool, first) - before_bytes
        charged_bytes = sum(each.resident_bytes for each in loaded)
        assert charged_bytes == pytest.approx(grown_bytes, rel=0.05)
        await pool.unload([each.residency for each in loaded])
        assert await private_bytes(pool, first) == pytest.approx(before_bytes, rel=0.05)


async def test_the_peak_of_a_load_is_told_apart_from_what_stays(tmp_path):
    async with running_pool() as pool:
        loaded = await load(pool, write_script(tmp_path / "falling", FALLING), "falling")
        assert loaded.resident_bytes == pytest.approx(8_000_000, rel=0.2)
        assert loaded.peak_bytes == pytest.approx(72_000_000, rel=0.1)
        assert loaded.file_bytes == 0


async def test_mapped_weights_are_told_as_files_and_not_charged_as_private_memory(tmp_path):
    directory = write_script(tmp_path / "mapping", MAPPING)
    weights = directory / os.fsdecode(b"weights-\xff")  # no text in any encoding of ours
    weights.write_bytes(b"x" * 32_000_000)
    async with running_pool() as pool:
        loaded = await load(pool, directory, "mapping")
        assert loaded.file_bytes == pytest.approx(32_000_000, rel=0.001)
        assert loaded.resident_bytes < 4_000_000
        assert loaded.peak_bytes < 4_000_000


@pytest.mark.parametrize("how", SHARING)
async def test_memory_shared_without_a_file_is_charged_and_comes_back(tmp_path, how):
    directory = write_script(tmp_path, SHARING[how])
    async with running_pool() as pool:
        loaded = await load(pool, directory, how)
        assert loaded.resident_bytes == pytest.approx(32_000_000, rel=0.01)
        assert loaded.peak_bytes >= loaded.resident_bytes
        await beats(pool)
        with_it = pool.describe()[0]["private_bytes"]
        await pool.unload([loaded.residency])
        assert with_it - pool.describe()[0]["private_bytes"] == pytest.approx(32_000_000, rel=0.1)


async def private_bytes(pool: Pool, loaded: LoadedModel) -> int:
    """Anonymous memory of a model's worker, now."""
    await predicted(pool, loaded.residency)
    status = Path(f"/proc/{pool.describe()[0]['pid']}/status")
    lines = (await asyncio.to_thread(status.read_text)).splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


async def test_after_many_comings_and_goings_what_is_charged_is_what_comes_back(
    tmp_path: Path,
) -> None:
    directory, resident = booster_directory(tmp_path), 20
    async with running_pool() as pool:
        models = [await load(pool, directory, f"m{number}") for number in range(resident)]
        for number in range(resident, 5 * resident):
            gone = models.pop(number * 7 % resident)
            models.append(await load(pool, directory, f"m{number}"))
            await pool.unload([gone.residency])  # after which the worker's memory is told exactly
        charged_bytes = sum(model.resident_bytes for model in models)
        full_bytes = pool.describe()[0]["private_bytes"]
        await pool.unload([model.residency for model in models])
        returned_bytes = full_bytes - pool.describe()[0]["private_bytes"]
        assert returned_bytes == pytest.approx(charged_bytes, rel=0.08)
