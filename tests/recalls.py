"""Engines whose evicted models come back by what their worker kept, as tests want them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mme import Engine
from mme.cache.residents import Residents
from mme.domain import ModelKey
from tests.engines import ask, cache_of, drop, quiet, running_engine
from tests.models import booster

SLEEPER = b"""
import time

def model_fn(model_dir):
    time.sleep(LOAD_SECONDS)
    return "the model"

def transform_fn(model, data, content_type, accept):
    time.sleep(float(data))
    return data, "text/csv"
"""


@asynccontextmanager
async def recalling(root: Path, count: int, **settings: Any) -> AsyncIterator[Engine]:
    """An engine that has answered for the models "0" to `count`, each of which answers its own."""
    for seed in range(count):
        drop(root / "models", f"{seed}", booster(seed).members)
    settings = {"pressure_seconds": 3600, "refresh_seconds": 3600, **settings}
    async with running_engine(root, **settings) as engine:
        for seed in range(count):
            assert await right(engine, seed)
        yield engine
        await quiet(engine)


def sleeper(load_seconds: float = 0.0) -> dict[str, bytes]:
    """A model that takes as many seconds to answer as it is told."""
    return {"code/inference.py": SLEEPER.replace(b"LOAD_SECONDS", repr(load_seconds).encode())}


async def right(engine: Engine, seed: int) -> bool:
    """Whether the model of this seed answers what its trees do, to the bit of what they print."""
    return await ask(engine, f"{seed}") == booster(seed).prediction


def residents_of(engine: Engine) -> Residents:
    return cache_of(engine).residents


def push_out(engine: Engine, *names: str) -> None:
    """Evicts models, as the least recently used; none: all that may be."""
    residents = residents_of(engine)
    budget_bytes = residents.ledger.budget_bytes
    others = [entry for entry in residents if names and entry.key not in names]
    for entry in others:
        residents.ledger.hold(entry.copy_id)
    residents.set_budget(1)
    residents.set_budget(budget_bytes)
    for entry in others:
        residents.ledger.unhold(entry.copy_id)


async def evict(engine: Engine, *names: str) -> None:
    """As `push_out`; returns once they have left."""
    push_out(engine, *names)
    await quiet(engine)
    assert not any(residents_of(engine).current(ModelKey(name)) for name in names)


def outcomes(engine: Engine) -> tuple[int, int]:
    """How many models were loaded, and how many recalled."""
    lines = engine.metrics_text()[0].decode().splitlines()
    counts = [
        int(float(line.split()[1]))
        for outcome in ("loaded", "recalled")
        for line in lines
        if line.startswith(f'mme_loads_total{{outcome="{outcome}"}}')
    ]
    return counts[0], counts[1]


def lost(engine: Engine) -> list[str]:
    """Models whose worker had not kept them, or that went with it."""
    return [event["model"] for event in engine.state()["events"] if event["kind"] == "lost"]
