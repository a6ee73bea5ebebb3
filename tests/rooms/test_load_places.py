"""Who waits for a load, in a real cache: requests have places, and nothing else takes one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mme import Engine, ModelKey
from mme.errors import Overloaded
from tests.engines import ask, drop, running_engine
from tests.eventually import eventually
from tests.models import booster

SLOW = b"""
import time

def model_fn(model_dir):
    time.sleep(1)

def transform_fn(model, data, content_type, accept):
    return "7.0", accept
"""
PREDICTION = booster(1).prediction


def put(root: Path, *names: str) -> None:
    drop(root / "models", "slow", {"code/inference.py": SLOW})
    for name in names:
        drop(root / "models", name, booster(1).members)


def waiting(engine: Engine) -> int:
    return engine.state()["waiting_for_loads"]


async def test_what_is_loaded_without_a_request_takes_no_place_and_is_never_refused(
    tmp_path: Path,
) -> None:
    put(tmp_path, "a", "b", "c")
    async with running_engine(tmp_path, queue_total=1, load_concurrency=1) as engine:
        first = asyncio.create_task(ask(engine, "slow"))
        await eventually(lambda: waiting(engine) == 1)
        async with asyncio.TaskGroup() as loads:
            for name in "ab":
                loads.create_task(engine.load(ModelKey(name)))
            await eventually(lambda: len(engine.state()["loading"]) == 3)
            assert waiting(engine) == 1
            with pytest.raises(Overloaded):
                await ask(engine, "c")
        assert await first == 7.0
        assert waiting(engine) == 0
        assert await ask(engine, "c") == pytest.approx(PREDICTION)
