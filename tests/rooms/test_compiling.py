"""Hot trees are compiled in their worker: the same answers, honest bytes, else the original."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import xgboost
from structlog.testing import capture_logs

from loaders.hot_rows import HOT_CALLS
from mme import Engine, ModelKey
from mme.cache.ledger import Ledger
from mme.errors import ConfigError
from tests.engines import (
    ask,
    assert_ledger_is_exact,
    cache_of,
    drop,
    invocation,
    quiet,
    running_engine,
)
from tests.eventually import eventually
from tests.models import FEATURES, booster

MODEL = "model.tar.gz"
ROWS = np.random.default_rng(3).random((500, FEATURES)).astype(np.float32)
TABLE = "\n".join(",".join(map(repr, row.tolist())) for row in ROWS).encode()
LARGE = booster(1, trees=400, depth=6).members  # some tens of milliseconds to compile
MEGABYTE = 1024**2


def cox() -> dict[str, bytes]:
    """A model whose objective is not compiled."""
    model = xgboost.train(
        {"objective": "survival:cox", "nthread": 1}, xgboost.DMatrix(ROWS, ROWS.sum(axis=1)), 2
    )
    return {"xgboost-model": bytes(model.save_raw("ubj"))}


@asynccontextmanager
async def compiling_engine(tmp_path, members, **settings: object) -> AsyncIterator[Engine]:
    (tmp_path / "models").mkdir()
    drop(tmp_path / "models", MODEL, members)
    chosen = {"compile_trees": "on", "heartbeat_seconds": 0.05, **settings}
    async with running_engine(tmp_path, **chosen) as engine:
        yield engine


async def answers(engine: Engine) -> list[float]:
    reply = await engine.invoke(invocation(MODEL, TABLE))
    return [float(cell) for cell in reply.body.decode().replace("\n", ",").split(",")]


async def heat(engine: Engine) -> list[float]:
    """Asks so many lone rows that the model is hot; what it answers."""
    before = await answers(engine)
    for _ in range(HOT_CALLS):
        await ask(engine, MODEL)
    return before


def told(engine: Engine) -> dict[str, object]:
    return engine.explain(ModelKey(MODEL))["copies"][0]


def counted(engine: Engine, outcome: str) -> float:
    return engine.metrics.models_compiled.labels(outcome)._count


def is_growing(engine: Engine, former_bytes: int) -> bool:
    """Whether room was made for what is being compiled."""
    return engine.state()["memory"]["resident_bytes"] > former_bytes


async def test_a_hot_model_answers_the_same_once_it_is_compiled_and_its_bytes_are_exact(tmp_path):
    async with compiling_engine(tmp_path, LARGE) as engine:
        before, alone, former = await heat(engine), await ask(engine, MODEL), told(engine)
        assert not former["compiled"]
        await eventually(lambda: told(engine)["compiled"])
        await eventually(lambda: told(engine)["bytes"] < former["bytes"] + 2 * MEGABYTE)
        assert await answers(engine) == pytest.approx(before, rel=1e-6, abs=1e-6)
        assert await ask(engine, MODEL) == pytest.approx(alone, rel=1e-6, abs=1e-6)
        assert counted(engine, "compiled") == 1
        assert_ledger_is_exact(engine)
        [worker] = engine.state()["workers"]
        assert worker["resident_bytes"] == told(engine)["bytes"]
        [account] = cache_of(engine).residents.accounts._holding.values()
        assert account.resident_bytes == told(engine)["bytes"]


async def test_a_model_that_is_unloaded_while_it_is_compiled_leaves_nothing_behind(tmp_path):
    async with compiling_engine(tmp_path, LARGE) as engine:
        before, former_bytes = await heat(engine), told(engine)["bytes"]
        await eventually(lambda: is_growing(engine, former_bytes), pause_seconds=0.001)
        assert await cache_of(engine).unload(ModelKey(MODEL))
        assert engine.state()["memory"]["resident_bytes"] == 0
        assert await answers(engine) == pytest.approx(before, rel=1e-6, abs=1e-6)


async def test_a_worker_that_dies_while_it_compiles_is_replaced_and_the_ledger_exact(tmp_path):
    async with compiling_engine(tmp_path, LARGE) as engine:
        before, former_bytes = await heat(engine), told(engine)["bytes"]
        await eventually(lambda: is_growing(engine, former_bytes), pause_seconds=0.001)
        os.kill(engine.state()["workers"][0]["pid"], signal.SIGKILL)
        await eventually(lambda: not engine.state()["models"])
        assert engine.state()["memory"]["resident_bytes"] == 0
        assert await answers(engine) == pytest.approx(before, rel=1e-6, abs=1e-6)
        await quiet(engine)


async def test_without_room_a_model_stays_as_it_is_until_there_is_some(tmp_path):
    settings = {"memory": 8 * MEGABYTE, "pressure_seconds": 60.0}  # the budget is this test's
    async with compiling_engine(tmp_path, LARGE, **settings) as engine:
        await heat(engine)
        residents = cache_of(engine).residents
        residents.set_budget(told(engine)["bytes"] + MEGABYTE)
        await eventually(engine._built_in.pool.hot)
        await ask(engine, MODEL)
        assert not told(engine)["compiled"]
        residents.set_budget(64 * MEGABYTE)
        await eventually(lambda: told(engine)["compiled"])


async def test_what_takes_more_than_there_was_room_for_is_given_up(tmp_path):
    async with compiling_engine(tmp_path, LARGE, heartbeat_seconds=60.0) as engine:
        before, former_bytes = await answers(engine), told(engine)["bytes"]
        [entry] = cache_of(engine).residents
        answer = await entry.slot.compile(entry.copy_id, room_bytes=1_000)
        assert answer.fault.status == 507
        assert await answers(engine) == before
        assert told(engine)["bytes"] == former_bytes


async def test_a_model_that_can_not_be_compiled_stays_and_the_log_says_so_once(tmp_path):
    with capture_logs() as logs:
        async with compiling_engine(tmp_path, cox()) as engine:
            before = await heat(engine)
            await eventually(lambda: counted(engine, "refused"))
            assert await answers(engine) == before
            assert await cache_of(engine).unload(ModelKey(MODEL))
            await heat(engine)  # loaded again, it is the same content
            await eventually(engine._built_in.pool.hot)
            assert not told(engine)["compiled"]
    assert [log["model"] for log in logs if log["event"] == "model_not_compiled"] == [MODEL]


async def test_nothing_is_compiled_unless_it_is_set(tmp_path):
    async with compiling_engine(tmp_path, LARGE, compile_trees="off") as engine:
        await ask(engine, MODEL)
        [entry] = cache_of(engine).residents
        answer = await entry.slot.compile(entry.copy_id, room_bytes=100 * MEGABYTE)
        assert answer.fault.status == 500
        assert not told(engine)["compiled"]


async def test_without_onnxruntime_the_setting_refuses_to_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"mme\[onnx\]"):
        async with compiling_engine(tmp_path, LARGE):
            pass


def test_a_resident_grows_into_free_room_only_and_shrinks_at_any_time():
    ledger: Ledger[str] = Ledger(100)
    assert not ledger.resize("a", 10)
    ledger.reserve("a", 40)
    ledger.commit("a")
    ledger.reserve("b", 30)
    assert not ledger.resize("a", 71)
    assert ledger.resize("a", 70)
    ledger.hold("a")
    assert ledger.resize("a", 20)
    assert (ledger.charged_bytes, ledger.bytes_of("a")) == (50, 20)
    ledger.unhold("a")
    assert ledger.resize("a", 60)
    assert ledger.shrink(0) == ("a",)
    assert ledger.leaving_bytes == 60
