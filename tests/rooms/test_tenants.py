"""One engine, several tenants: limits hold for theirs alone, and turns are shared."""

from __future__ import annotations

import asyncio

import pytest

from mme.errors import MemoryRefused, Throttled
from tests.engines import ask, cache_of, drop, invocation, running_engine
from tests.models import booster

_ONE_MODEL_BYTES = 70_000  # and no more: what is reserved for an unknown one is 64 KiB


def tenant_models(root, *names):
    models = root / "models"
    models.mkdir()
    for seed, name in enumerate(names):
        drop(models, name, booster(seed).members)


async def ask_often(engine, model):
    for _ in range(20):
        await ask(engine, model)


async def test_a_tenant_over_its_rate_is_throttled_and_others_are_not(tmp_path):
    tenant_models(tmp_path, "acme/a.tar.gz", "other/b.tar.gz")
    limits = [{"pattern": "acme", "requests_per_second": 1}]
    async with running_engine(tmp_path, tenant_by="1", limits=limits) as engine:
        await ask(engine, "acme/a.tar.gz")
        with pytest.raises(Throttled) as refused:
            await ask_often(engine, "acme/a.tar.gz")
        assert 0 < refused.value.retry_after_seconds <= 1
        await ask_often(engine, "other/b.tar.gz")


async def test_an_api_key_is_a_tenant_whatever_it_asks(tmp_path):
    tenant_models(tmp_path, "a.tar.gz")
    limits = [{"pattern": "bob", "max_concurrency": 1}]
    async with running_engine(tmp_path, tenant_by="key", limits=limits) as engine:
        asks = [engine.invoke(invocation("a.tar.gz", api_key=key)) for key in ("bob", "bob", "eve")]
        tasks = [asyncio.create_task(each) for each in asks]
        await asyncio.wait(tasks)
        failed = [task.exception() for task in tasks]
        assert [isinstance(error, Throttled) for error in failed] == [False, True, False]


async def test_a_tenants_own_models_go_for_its_next_one_and_nobody_elses(tmp_path):
    tenant_models(tmp_path, "acme/a.tar.gz", "acme/b.tar.gz", "other/c.tar.gz")
    limits = [{"pattern": "acme", "resident_bytes": _ONE_MODEL_BYTES}]
    async with running_engine(tmp_path, tenant_by="1", limits=limits) as engine:
        for model in ("other/c.tar.gz", "acme/a.tar.gz", "acme/b.tar.gz"):
            await ask(engine, model)
        resident = {model["model"] for model in engine.state()["models"]}
        assert resident == {"other/c.tar.gz", "acme/b.tar.gz"}


async def test_a_model_larger_than_its_tenant_may_have_is_refused(tmp_path):
    tenant_models(tmp_path, "acme/a.tar.gz")
    limits = [{"pattern": "acme*", "resident_bytes": 10}]
    async with running_engine(tmp_path, limits=limits) as engine:
        with pytest.raises(MemoryRefused, match=r"may have 10\."):
            await ask(engine, "acme/a.tar.gz")
        assert cache_of(engine).residents.ledger.charged_bytes == 0


async def test_a_tenant_that_loaded_too_much_is_told_when_it_may_again(tmp_path):
    tenant_models(tmp_path, "acme/a.tar.gz", "acme/b.tar.gz", "other/c.tar.gz")
    limits = [{"pattern": "acme", "download_bytes_per_second": 1}]
    async with running_engine(tmp_path, tenant_by="1", limits=limits) as engine:
        await ask(engine, "acme/a.tar.gz")
        with pytest.raises(Throttled) as refused:
            await ask(engine, "acme/b.tar.gz")
        assert refused.value.retry_after_seconds > 60
        await ask(engine, "other/c.tar.gz")
