"""S3 misbehaves under a running engine: a typed error, residents unharmed, and it passes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from mme import Engine
from mme.config import DiskConfig, StoreConfig
from mme.domain import ModelKey
from mme.errors import (
    ArtifactRefused,
    ArtifactUnavailable,
    Draining,
    MmeError,
    ReadFailed,
    StoreUnavailable,
)
from mme.metrics import Metrics
from mme.store import artifacts
from mme.store.artifacts import ArtifactCache
from mme.store.s3 import S3Store
from tests.buckets import Bucket
from tests.chaos.s3_hop import S3Hop, s3_hop
from tests.engines import ask, quiet, running_engine, tarball
from tests.eventually import eventually
from tests.models import booster
from tests.servers import predict, runtime_client, serving
from tests.tarballs import tar

KEY = ModelKey("model")
_BLOCK_BYTES = 4096
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
        async with running_engine(root, **{**where, **settings}) as engine:
            assert await ask(engine, "hot") == is_model(1)
            yield engine, hop
            await quiet(engine)


async def refused(engine: Engine, model: str) -> MmeError:
    with pytest.raises(MmeError) as caught:
        await ask(engine, model)
    return caught.value


def restarts(rendered: tuple[bytes, str]) -> float:
    """Fetches that were begun again, by the metrics."""
    found = re.search(rb"(?m)^mme_fetch_restarts_total (\S+)$", rendered[0])
    assert found is not None
    return float(found[1])


def bytes_of_models(cache: Path) -> int:
    """What lies in the disk tier, in whole blocks."""
    sizes = [path.stat().st_size for path in cache.rglob("models/*/*")]
    return sum(-(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES for size_bytes in sizes)


@contextlib.asynccontextmanager
async def disk_tier_behind(bucket: Bucket, root: Path) -> AsyncIterator[tuple]:
    """A disk tier whose S3 is behind a hop."""
    async with s3_hop(bucket.endpoint) as hop, contextlib.AsyncExitStack() as stack:
        where = {"models": bucket.url(), "s3_endpoint": hop.endpoint, "s3_read_seconds": 1.0}
        store = S3Store(StoreConfig(**where))
        stack.push_async_callback(store.close)
        metrics = Metrics("endpoint", "variant")
        cache = ArtifactCache(store, DiskConfig(cache_dir=str(root / "cache")), metrics)
        await cache.start()
        stack.push_async_callback(cache.close)
        yield cache, hop, metrics


async def entered(cache: ArtifactCache) -> bytes:
    """The content of KEY."""
    async with cache.lease(KEY) as artifact:
        return (artifact.directory / "model").read_bytes()


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
            hop.fault, begun_again = fault, restarts(engine.metrics_text())
            assert type(await refused(engine, fault)) is error, fault
            assert restarts(engine.metrics_text()) - begun_again == (
                2 if error is ReadFailed else 0
            ), fault
            assert await ask(engine, "hot") == is_model(1)
        assert list((tmp_path / "cache").rglob("incoming/*")) == []
        hop.fault = None
        for seed, fault in enumerate(FAULTS, start=10):
            await recovered(engine, fault, seed)


async def test_one_cold_model_after_the_other_comes_over_the_same_connection(
    bucket: Bucket, tmp_path: Path
) -> None:
    for seed in range(10, 15):
        bucket.put(f"m{seed}", tarball(booster(seed).members))
    async with engine_behind(bucket, tmp_path) as (engine, hop):
        assert await ask(engine, "cold") == is_model(2)
        taken, sent = hop.connections_taken, hop.objects_sent
        for seed in range(10, 15):
            assert await ask(engine, f"m{seed}") == is_model(seed)
        assert hop.objects_sent == sent + 5
        assert hop.connections_taken == taken


@pytest.mark.parametrize("padding_bytes", [0, 2 * 1024**2], ids=["at once", "as it comes"])
@pytest.mark.parametrize("fault", ["reset", "short", "held"])
async def test_a_body_that_breaks_off_twice_is_noticed_by_no_client(
    bucket: Bucket, tmp_path: Path, fault: str, padding_bytes: int
) -> None:
    padded = {**booster(2).members, "padding.bin": os.urandom(padding_bytes)}
    async with engine_behind(bucket, tmp_path, s3_read_seconds=1.0) as (engine, hop):
        bucket.put("cold", tarball(padded))
        hop.next_faults = [fault, fault]
        asking = [asyncio.create_task(ask(engine, "cold")) for _ in range(5)]
        assert [await each for each in asking] == [is_model(2)] * 5
        assert restarts(engine.metrics_text()) == 2
        assert hop.objects_sent == 4  # of hot and three times of cold
        assert list((tmp_path / "cache").rglob("incoming/*")) == []
        assert engine.state()["disk"]["used_bytes"] == bytes_of_models(tmp_path / "cache")
        assert await ask(engine, "hot") == is_model(1)


async def test_bytes_that_are_not_what_their_etag_names_are_fetched_again(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("plain", tar(booster(3).members))
    async with engine_behind(bucket, tmp_path, s3_read_seconds=10.0) as (engine, hop):
        hop.next_faults = ["flipped"]
        assert await ask(engine, "plain") == is_model(3)
        assert restarts(engine.metrics_text()) == 1


@pytest.mark.timeout(60)
async def test_a_store_whose_bodies_all_break_off_is_asked_thrice_and_boto3_is_told(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("cold", tarball(booster(2).members))

    def ask_a_server(endpoint: str) -> Mapping[str, Any]:
        with (
            serving(tmp_path, bucket.url(), "--s3-endpoint", endpoint) as server,
            runtime_client(server.url) as client,
        ):
            with pytest.raises(ClientError) as refusal:
                predict(client, "cold")
            hop.fault = None
            assert predict(client, "cold") == is_model(2)
            assert server.stop() == 0
        return refusal.value.response

    async with s3_hop(bucket.endpoint) as hop:
        hop.fault = "reset"
        answer = await asyncio.to_thread(ask_a_server, hop.endpoint)
        assert hop.objects_sent == 3 + 1
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 530
    assert answer["Error"]["Code"] == "InternalDependencyException"
    assert "S3 broke off" in answer["Error"]["Message"]
    assert list((tmp_path / "cache").rglob("incoming/*")) == []


async def test_who_is_cancelled_between_two_fetches_leaves_and_holds_nothing(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_PAUSES_SECONDS", (60.0,))
    async with disk_tier_behind(bucket, tmp_path) as (cache, hop, metrics):
        bucket.put(KEY, tarball({"model": b"old"}))
        async with cache.lease(KEY) as old:
            pass
        bucket.put(KEY, tarball({"model": b"new"}))
        hop.fault = "reset"
        leasing = asyncio.create_task(entered(cache))
        await eventually(lambda: restarts(metrics.render()))
        assert list((tmp_path / "cache" / "incoming").iterdir()) == []
        leasing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leasing
        cache.discard(old.version)  # which stays for as long as somebody holds it
        await eventually(lambda: not cache.used_bytes)
        hop.fault = None
        assert await entered(cache) == b"new"


async def test_who_waited_for_a_fetch_that_broke_off_fetches_while_that_one_pauses(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_PAUSES_SECONDS", (60.0,))
    bucket.put(KEY, tarball({"model": b"new"}))
    async with disk_tier_behind(bucket, tmp_path) as (cache, hop, metrics):
        hop.next_faults = ["held"]
        first = asyncio.create_task(entered(cache))
        await hop.under_way.wait()
        second = asyncio.create_task(entered(cache))
        await eventually(lambda: hop.objects_sent >= 2)  # and left: it is under way
        assert await second == b"new"
        assert restarts(metrics.render()) == 1
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_load_that_waits_to_fetch_again_ends_at_its_deadline_and_with_the_engine(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_PAUSES_SECONDS", (60.0,))
    for model in ("first", "second"):
        bucket.put(model, tarball(booster(2).members))
    async with s3_hop(bucket.endpoint) as hop:
        hop.fault = "reset"
        where = {"models": bucket.url(), "s3_endpoint": hop.endpoint, "load_seconds": 2.0}
        async with running_engine(tmp_path, **where) as engine:
            assert "Not loaded within 2 s" in str(await refused(engine, "first"))
            second = asyncio.create_task(ask(engine, "second"))
            await eventually(lambda: restarts(engine.metrics_text()) == 2)
        with pytest.raises(Draining):
            await second
    assert list((tmp_path / "cache").rglob("incoming/*")) == []


async def test_a_load_that_waits_to_fetch_again_keeps_no_other_from_loading(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_PAUSES_SECONDS", (60.0,))
    for seed, model in enumerate(("broken", "sound")):
        bucket.put(model, tarball(booster(seed).members))
    async with s3_hop(bucket.endpoint) as hop:
        hop.next_faults = ["reset"]
        where = {"models": bucket.url(), "s3_endpoint": hop.endpoint, "load_concurrency": 1}
        async with running_engine(tmp_path, **where) as engine:
            broken = asyncio.create_task(ask(engine, "broken"))
            await eventually(lambda: restarts(engine.metrics_text()))
            assert await ask(engine, "sound") == is_model(1)
        with pytest.raises(Draining):
            await broken


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
