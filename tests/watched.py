"""A server that seems to hold very many models: a real front and a real view, over made-up entries.

What a worker holds is not looked at by a console, so ten thousand entries need no worker.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

from mme.app.view import View
from mme.cache.entry import Entry
from mme.cache.ledger import Ledger
from mme.cache.records import Records
from mme.config import ServerConfig
from mme.domain import ArtifactVersion, ModelKey
from mme.errors import ModelMissing
from mme.front.credentials import KeyFile
from mme.front.dialects import Management
from mme.front.server import Front
from mme.metrics import Metrics
from tests.rooms.front_double import FakeService

ABOUT = {"variant": "AllTraffic", "location": "made-up/", "version": "0", "mode": "Serial"}
WORKER = {
    "worker": 0, "state": "ready", "pid": 1, "models": 0, "private_bytes": 1, "queued": 0,
    "running": 0, "restarts": 0,
}  # fmt: skip


def entries(count: int) -> list[Entry]:
    """Models of many sizes, a few of them hot; always the same."""
    drawn, now = random.Random(7), time.monotonic()
    return [entry(f"tenant-{n:05}/model.tar.gz", drawn, now) for n in range(count)]


def entry(name: str, drawn: random.Random, now: float) -> Entry:
    slot, size = SimpleNamespace(index=0), int(drawn.lognormvariate(12, 1))
    residency = SimpleNamespace(model=f"copy of {name}", slot=slot)
    loaded = SimpleNamespace(residency=residency, resident_bytes=size, load_seconds=0.1)
    version = ArtifactVersion(location="made-up/", key=ModelKey(name), etag="1", size_bytes=size)
    made = Entry(
        version=version, loaded=loaded, unpacked_bytes=size, loaded_at=now - 100.0,
        used_at=now - drawn.expovariate(0.1), check_at=now, fresh_until=now,
    )  # fmt: skip
    made.hits = int(drawn.paretovariate(0.5)) % 100_000
    return made


class Residents:
    """What the view asks of the cache's own."""

    def __init__(self, models: list[Entry]) -> None:
        self.models = models
        self.ledger = Ledger[str](2 * sum(one.loaded.resident_bytes for one in models) + 1)
        self.ledger.resident_bytes = self.ledger.budget_bytes // 2

    def __iter__(self):
        return iter(self.models)


def view(models: list[Entry], metrics: Metrics) -> View:
    """The console's view of these models."""
    loading = SimpleNamespace(keys=list)
    records = Records(time.time)
    cache = SimpleNamespace(residents=Residents(models), loading=loading, records=records)
    pool = SimpleNamespace(describe=lambda: [WORKER])
    return View(metrics, (), SimpleNamespace(cache=cache, pool=pool), list, ABOUT)


def view_of_others(metrics: Metrics, problem: str) -> View:
    """The console's view where another container alone answers, and does not feel well."""
    told = {"hostname": "triton", "kind": "sibling", "problem": problem, "models": ["a", "b"]}
    return View(metrics, (SimpleNamespace(describe=lambda: told),), None, lambda: [problem], ABOUT)


class Unknowing(FakeService):
    """Has no built-in engine that could explain a model."""

    def explain(self, key: ModelKey) -> dict[str, object]:
        raise ModelMissing(f"None of the containers is the built-in engine: {key}")


@asynccontextmanager
async def watched(shown, metrics: Metrics, keys: KeyFile | None = None) -> AsyncIterator[Front]:
    """A front with a console that shows this view."""
    config = ServerConfig(port=0)
    front = Front(Unknowing(), config, metrics, Management(watched=shown), keys=keys)
    await front.start()
    try:
        yield front
    finally:
        await front.close()
