"""S3 misbehaves under a running engine: a typed error, residents unharmed, and it passes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mme import Engine
from mme.errors import ArtifactRefused, ArtifactUnavailable, MmeError, ReadFailed, StoreUnavailable
from tests.buckets import Bucket
from tests.chaos.s3_hop import S3Hop, s3_hop
from tests.engines import ask, quiet, running_engine, tarball
from tests.eventually import eventually
from tests.models import booster

FAULTS = {
    "500": StoreUnavailable,
    "503": StoreUnavailable,
    "403": ArtifactUnavailable,
    "silence": StoreUnavailable,
    "reset": ReadFailed,
    "short": ReadFailed,
    "flipped": ArtifactRefused,
}


def is_model(seed: int) -> object:
    return pytest.approx(booster(seed).prediction, rel=1e-6)


@contextlib.asynccontextmanager
async def engine_behind(bucket: Bucket, root: Path, **settings: object) -> AsyncIterator[tuple]:
    """An engine whose S3 is behind a hop; `hot` is in its memory, `cold` is not."""
    bucket.put("hot", tarball(booster(1).members))
    bucket.put("cold", tarball(booster(2).members))
    async with s3_hop(bucket.endpoint) as hop:
        where = {"models": bucket.url(), "s3_endpoint": hop.endpoint, "s3_read_seconds": 0.3}
        async with running_engine(root, **where, **settings) as engine:
            assert await ask(engine, "hot") == is_model(1)
            yield engine, hop
            await quiet(engine)


async def refused(engine: Engine, model: str) -> MmeError:
    with pytest.raises(MmeError) as caught:
        await ask(engine, model)
    return caught.value


async def recovered(engine: Engine, model: str, seed: int) -> None:
    """It is served again, once the failure is no longer remembered."""
    while True:
        try:
            assert await ask(engine, model) == is_model(seed)
        except MmeError:
            await asyncio.sleep(0.05)
        else:
            return


@pytest.mark.timeout(60)
async def test_a_fault_of_s3_is_a_typed_error_and_passes_by_itself(
    bucket: Bucket, tmp_path: Path
) -> None:
    for seed, fault in enumerate(FAULTS, start=10):
        bucket.put(fault, tarball(booster(seed).members))
    async with engine_behind(bucket, tmp_path) as (engine, hop):
        for fault, error in FAULTS.items():
            hop.fault = fault
            assert type(await refused(engine, fault)) is error, fault
            assert await ask(engine, "hot") == is_model(1)
        assert list((tmp_path / "cache").rglob("incoming/*")) == []
        hop.fault = None
        for seed, fault in enumerate(FAULTS, start=10):
            await recovered(engine, fault, seed)


async def test_a_client_that_leaves_in_the_middle_of_a_load_leaves_a_sound_model(
    bucket: Bucket, tmp_path: Path
) -> None:
    async with engine_behind(bucket, tmp_path) as (engine, hop):
        hop.fault = "held"
        cold = asyncio.create_task(ask(engine, "cold"))
        await hop.under_way.wait()
        cold.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cold
        assert await ask(engine, "hot") == is_model(1)
        hop.fault = None
        hop.release.set()
        assert await ask(engine, "cold") == is_model(2)


async def test_a_slow_s3_delays_only_the_one_who_waits_for_it(
    bucket: Bucket, tmp_path: Path
) -> None:
    async with engine_behind(bucket, tmp_path) as (engine, hop):
        hop.fault = "slow"
        cold = asyncio.create_task(ask(engine, "cold"))
        await eventually(lambda: engine.state()["loading"])
        started = time.monotonic()
        assert await ask(engine, "hot") == is_model(1)
        assert time.monotonic() - started < 0.4
        assert not cold.done()
        assert await cold == is_model(2)


async def test_an_overwrite_in_the_middle_of_a_read_gives_no_mixture(
    bucket: Bucket, tmp_path: Path
) -> None:
    slow = {"refresh_seconds": 0.1}
    async with engine_behind(bucket, tmp_path, **slow) as (engine, hop):
        held: S3Hop = hop
        held.fault = "held"
        cold = asyncio.create_task(ask(engine, "cold"))
        await held.under_way.wait()
        bucket.put("cold", tarball(booster(3).members))
        held.fault = None
        held.release.set()
        assert await cold in (is_model(2), is_model(3))
        while await ask(engine, "cold") != is_model(3):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.02)


async def test_a_name_that_does_not_resolve_is_the_stores_fault_and_residents_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    where = {"models": "s3://bucket/", "s3_endpoint": "http://s3.invalid:1"}
    async with running_engine(tmp_path, **where, s3_connect_seconds=1.0) as engine:
        for _ in range(2):  # the second is remembered, or asked again: either way the same
            error = await refused(engine, "cold")
            assert isinstance(error, StoreUnavailable)
            assert "cold" in str(error)
