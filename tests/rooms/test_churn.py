"""A cache that is too small, over real workers: who is in use stays, and the rest is told when."""

from __future__ import annotations

import pytest

from mme import ModelKey
from mme.errors import CacheThrashing
from tests.engines import ask, cache_of, drop, quiet, running_engine
from tests.models import booster

KEYS = [ModelKey(f"{seed}.tar.gz") for seed in range(3)]


@pytest.mark.parametrize("eviction", ["lru", "gdsf"])
async def test_newcomers_are_refused_while_all_that_is_in_memory_is_asked_for_more(
    tmp_path, eviction
):
    for seed, key in enumerate(KEYS):
        drop(tmp_path / "models", key, booster(seed, trees=60, depth=4).members)
    async with running_engine(
        tmp_path, churn_seconds=60.0, pressure_seconds=3600, eviction=eviction
    ) as engine:
        cache, new = cache_of(engine), KEYS[2]
        for key in KEYS:
            await engine.load(key)
        await cache.unload(new)
        cache.residents.set_budget(cache.residents.ledger.resident_bytes + 1_000)
        for _ in range(3):
            for key in KEYS[:2]:
                await ask(engine, key)
        for _ in range(5):
            with pytest.raises(CacheThrashing) as refused:
                await ask(engine, new)
            assert 0 < refused.value.retry_after_seconds <= 60
        assert len(engine.state()["models"]) == 2
        (tmp_path / "models" / new).unlink()
        with pytest.raises(CacheThrashing):  # nothing is fetched for a refusal that is known
            await ask(engine, new)
        drop(tmp_path / "models", new, booster(2, trees=60, depth=4).members)
        for _ in range(20):  # who insists gets in
            try:
                await ask(engine, new)
            except CacheThrashing:
                continue
            break
        assert cache.residents.copies(new)
        await quiet(engine)


async def test_a_new_version_of_what_is_in_memory_is_no_newcomer(tmp_path):
    drop(tmp_path / "models", KEYS[0], booster(0).members)
    drop(tmp_path / "models", KEYS[1], booster(1).members)
    async with running_engine(tmp_path, churn_seconds=60.0, pressure_seconds=3600) as engine:
        cache = cache_of(engine)
        for key in KEYS[:2]:
            await ask(engine, key)
        cache.residents.set_budget(cache.residents.ledger.resident_bytes + 100)
        drop(tmp_path / "models", KEYS[0], booster(5).members)
        await cache.refresh(KEYS[0])
        assert await ask(engine, KEYS[0]) == pytest.approx(booster(5).prediction, rel=1e-6)
        await quiet(engine)
