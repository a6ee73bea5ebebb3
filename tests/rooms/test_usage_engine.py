"""What an engine charges its models: real workers, real batches."""

from __future__ import annotations

import asyncio
import time

import pytest

from mme.errors import ConfigError, InvalidRequest, ModelError, Throttled
from mme.usage.statement import read_window
from tests.engines import cache_of, drop, invocation, running_engine
from tests.eventually import eventually

SLOW = """
import os, time
def model_fn(directory): return None
def input_fn(body, kind): return body
def predict_fn(data, model):
    time.sleep(0.2)
    if data in ("die", b"die"):
        os._exit(1)
    return data
def output_fn(answer, accept): return answer, "text/plain"
"""


async def billed(engine):
    told = await engine._built_in.keeper.read(read_window({}, time.time()))
    return {usage.model: usage for usage in told.models}


async def test_a_restart_goes_on_where_the_ledger_was_and_another_server_may_not_have_it(tmp_path):
    drop(tmp_path / "models", "a.tar.gz", {"code/inference.py": SLOW.encode()})
    async with running_engine(tmp_path) as engine:
        await engine.invoke(invocation("a.tar.gz"))
        other = {"cache_dir": str(tmp_path / "other")}
        path = str(tmp_path / "cache" / "ledger.sqlite3")
        with pytest.raises(ConfigError, match="another server writes"):
            async with running_engine(tmp_path, ledger=path, **other):
                pass
    async with running_engine(tmp_path) as engine:
        await engine.invoke(invocation("a.tar.gz"))
        usage = (await billed(engine))["a.tar.gz"]
    assert (usage.requests, usage.loads) == (2, 2)
    assert usage.memory_byte_seconds > 0


async def test_without_a_ledger_there_is_no_file_and_the_most_asked_are_known(tmp_path):
    drop(tmp_path / "models", "a.tar.gz", {"code/inference.py": SLOW.encode()})
    async with running_engine(tmp_path, ledger="off") as engine:
        await engine.invoke(invocation("a.tar.gz"))
        with pytest.raises(InvalidRequest, match="keeps no ledger"):
            await billed(engine)
        await engine._built_in.keeper.write()
        text = engine.metrics_text()[0].decode()
        assert 'mme_model_requests_total{model="a.tar.gz"} 1.0' in text
    assert not list((tmp_path / "cache").glob("ledger*"))


async def test_a_ledger_that_cannot_be_had_keeps_only_those_from_serving_who_named_it(tmp_path):
    path = tmp_path / "cache" / "ledger.sqlite3"
    path.parent.mkdir()
    path.write_text("no ledger" * 1000)
    async with running_engine(tmp_path) as engine:
        assert not engine._built_in.keeper.is_writing
    with pytest.raises(ConfigError, match="is no ledger"):
        async with running_engine(tmp_path, ledger=str(path)):
            pass
    assert path.read_text().startswith("no ledger")


async def test_a_batch_is_charged_once_and_also_when_nobody_waits_or_its_worker_ends(tmp_path):
    drop(tmp_path / "models", "slow.tar.gz", {"code/inference.py": SLOW.encode()})
    async with running_engine(tmp_path) as engine:
        await engine.load("slow.tar.gz")
        gone = asyncio.create_task(engine.invoke(invocation("slow.tar.gz", b"x")))
        pool = engine._built_in.pool
        await eventually(lambda: pool.describe()[0]["running"])
        gone.cancel()
        await asyncio.wait([gone])
        await engine.invoke(invocation("slow.tar.gz", b"y"))
        usage = (await billed(engine))["slow.tar.gz"]
        assert (usage.requests, usage.client_errors) == (2, 1)
        assert 0.4 <= usage.compute_seconds < 0.4 + 5
        with pytest.raises(ModelError):
            await engine.invoke(invocation("slow.tar.gz", b"die"))
        await eventually(lambda: not cache_of(engine).residents.current("slow.tar.gz"))
        usage = (await billed(engine))["slow.tar.gz"]
        assert usage.model_errors == 1
        assert usage.compute_seconds >= 0.4 + 0.15


async def test_what_a_limit_refuses_is_billed_as_the_clients_error(tmp_path):
    drop(tmp_path / "models", "a.tar.gz", {"code/inference.py": SLOW.encode()})
    limits = [{"pattern": "a*", "max_concurrency": 1}]
    async with running_engine(tmp_path, limits=limits) as engine:
        await engine.load("a.tar.gz")
        first = asyncio.create_task(engine.invoke(invocation("a.tar.gz")))
        await asyncio.sleep(0)  # it has begun
        with pytest.raises(Throttled):
            await engine.invoke(invocation("a.tar.gz"))
        await first
        usage = (await billed(engine))["a.tar.gz"]
    assert (usage.requests, usage.client_errors) == (2, 1)
