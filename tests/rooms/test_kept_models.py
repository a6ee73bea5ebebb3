"""Models that come and go are read from what their worker kept, and charged what they take."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import xgboost

from mme.config import WorkerConfig
from mme.metrics import Metrics
from mme.workers.memory import OBJECTS_BYTES
from mme.workers.pool import LoadedModel, LoadRequest, Pool
from mme.workers.protocol import Answered, Ask
from tests.engines import ask, drop, quiet, running_engine
from tests.models import CSV, FEATURES, booster
from tests.recalls import outcomes, residents_of

COUNT = 40
UNTRIMMED_BYTES = 128 * 1024


async def test_kept_models_are_charged_what_they_take_and_leave_little(tmp_path: Path) -> None:
    wanted = booster(1, trees=200, depth=6)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / wanted.name).write_bytes(wanted.data)
    pool = Pool(
        WorkerConfig(heartbeat_seconds=0.1), workers=1, threads=1, metrics=Metrics("e", "v"),
        on_lost=lambda *_: None, on_recycle=None,
    )  # fmt: skip
    await pool.start()
    try:
        await come_and_go(pool, tmp_path / "models", "first")
        (tmp_path / "models" / wanted.name).write_bytes(b"no model")  # nor is it asked for again
        charged_bytes, taken_bytes, answer = await come_and_go(pool, tmp_path / "models", "again")
        assert answer == pytest.approx(wanted.prediction, rel=1e-6)
        pooled_bytes = COUNT * OBJECTS_BYTES  # which these found where the first had left it
        assert charged_bytes - pooled_bytes == pytest.approx(taken_bytes, rel=0.08)
        [worker] = pool.describe()
        assert worker["lost_bytes"] <= pooled_bytes
        one = await load(pool, tmp_path / "models", 0, "alone")
        await pool.unload([one.residency])  # too little to be trimmed for
        [worker] = pool.describe()
        assert worker["lost_bytes"] < pooled_bytes + UNTRIMMED_BYTES
    finally:
        await pool.close()


async def test_models_that_come_back_take_no_more_than_they_did_where_they_were_loaded(tmp_path):
    rows = np.random.default_rng(1).random((800, FEATURES))
    table = xgboost.DMatrix(rows, rows.sum(axis=1) + rows[:, 0] * rows[:, 1] * 9)
    large = bytes(xgboost.train({"max_depth": 7, "nthread": 1}, table, 50).save_raw("ubj"))
    for number in range(60):
        drop(tmp_path / "models", f"{number}", {"xgboost-model": large})
    async with running_engine(tmp_path, pressure_seconds=3600, refresh_seconds=3600) as engine:
        pool, residents = engine._built_in.pool, residents_of(engine)
        answers = {await ask(engine, f"{number}") for number in range(60)}
        residents.set_budget(residents.ledger.resident_bytes // 2)
        await quiet(engine)
        before_bytes = await anonymous_bytes(pool)
        answers |= {await ask(engine, f"{number % 60}") for number in range(120)}
        assert len(answers) == 1
        assert outcomes(engine) == (60, 120)
        grown_bytes = await anonymous_bytes(pool) - before_bytes
        assert grown_bytes < residents.ledger.budget_bytes * 0.6


async def come_and_go(pool: Pool, directory: Path, turn: str) -> tuple[int, int, float]:
    """What models are charged together, what the worker takes for them, and what one answers."""
    before_bytes = await anonymous_bytes(pool)
    loaded = [await load(pool, directory, number, turn) for number in range(COUNT)]
    taken_bytes = await anonymous_bytes(pool) - before_bytes
    outcome = await pool.predict(loaded[-1].residency, Ask(CSV, "text/csv", "text/csv"))
    assert isinstance(outcome.result, Answered)
    charged_bytes = sum(model.resident_bytes for model in loaded)
    await pool.unload([model.residency for model in loaded])
    return charged_bytes, taken_bytes, float(outcome.result.body)


async def load(pool: Pool, directory: Path, number: int, turn: str) -> LoadedModel:
    return await pool.load(
        LoadRequest(
            model=f"{turn}-{number}", name=f"{number}", directory=str(directory), size_bytes=1,
            content=f"content-{number}",
        )
    )  # fmt: skip


async def anonymous_bytes(pool: Pool) -> int:
    """What the worker holds now, by the kernel."""
    status = Path(f"/proc/{pool.describe()[0]['pid']}/status")
    lines = (await asyncio.to_thread(status.read_text)).splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
