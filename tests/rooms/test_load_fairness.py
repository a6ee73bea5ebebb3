"""Load slots are shared by tenant: who has many cold models asked for waits for itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.engines import ask, drop, running_engine
from tests.eventually import eventually
from tests.models import booster

MANY = 12


async def test_a_tenants_first_cold_model_goes_before_anothers_many(tmp_path: Path) -> None:
    for number in range(MANY):
        drop(tmp_path / "models", f"many/{number}", booster(1).members)
    drop(tmp_path / "models", "few/1", booster(2).members)
    settings = {"tenant_by": "1", "load_concurrency": 1}
    async with running_engine(tmp_path, **settings) as engine:
        many = [asyncio.create_task(ask(engine, f"many/{number}")) for number in range(MANY)]
        await eventually(lambda: len(engine.state()["loading"]) == MANY)
        before = {event["model"] for event in engine.state()["events"]}
        await ask(engine, "few/1")
        await asyncio.wait(many)
        order = [event["model"] for event in engine.state()["events"] if event["kind"] == "loaded"]
    assert len(order) == MANY + 1
    assert order.index("few/1") <= len(before) + 3
