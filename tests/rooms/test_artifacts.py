"""The disk tier over real stores: fetched once, leased, in its budget, and whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from pathlib import Path

import pytest

from mme.config import DiskConfig, StoreConfig
from mme.domain import ArtifactVersion, ModelKey
from mme.errors import (
    ArtifactRefused,
    ArtifactUnavailable,
    ConfigError,
    DiskUnavailable,
    StoreUnavailable,
)
from mme.metrics import Metrics
from mme.store.artifacts import ArtifactCache
from mme.store.base import ArtifactStream
from mme.store.disk_files import DiskFiles
from mme.store.disk_index import DiskIndex
from mme.store.disk_takeover import TakeOver
from mme.store.files import FilesStore
from mme.store.s3 import S3Store
from tests.buckets import Bucket
from tests.eventually import eventually
from tests.tarballs import tarball
from tests.unpacking import tree

KEY = ModelKey("tenant/m.tar.gz")
KIB = 1024


class CountingStore(FilesStore):
    """A directory store that notes what it sent, and can stop in the last chunk of a body."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.root = directory
        self.sent: list[str] = []
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()

    def put(self, key: str, content: bytes) -> None:
        self.put_raw(key, tarball({"model": content}))

    def put_raw(self, key: str, blob: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name("fresh").write_bytes(blob)
        path.with_name("fresh").replace(path)

    @contextlib.asynccontextmanager
    async def open(
        self, key: ModelKey, known: ArtifactVersion | None = None
    ) -> AsyncIterator[ArtifactStream | None]:
        async with super().open(key, known) as stream:
            if stream is None:
                yield None
                return
            self.sent.append(key)
            yield ArtifactStream(stream.version, self._through_gate(stream.chunks))

    async def _through_gate(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            if self.gate is None or len(chunk) == 256 * KIB:
                yield chunk
                continue
            yield chunk[:-100]
            self.reached.set()
            await self.gate.wait()
            yield chunk[-100:]


Opener = Callable[..., contextlib.AbstractAsyncContextManager[ArtifactCache]]


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    (tmp_path / "store").mkdir()
    return CountingStore(tmp_path / "store")


@pytest.fixture
def opened(tmp_path: Path, store: CountingStore) -> Opener:
    """Opens the disk tier over the test's directory; again for a restart."""

    @contextlib.asynccontextmanager
    async def open_cache(
        disk_bytes: int = 2**30, over: object = store, high: float = 1.0, low: float = 1.0
    ) -> AsyncIterator[ArtifactCache]:
        config = DiskConfig(
            cache_dir=str(tmp_path / "cache"),
            disk_bytes=disk_bytes,
            high_ratio=high,
            low_ratio=low,
        )
        cache = ArtifactCache(over, config, Metrics("e", "v"))
        await cache.start()
        try:
            await eventually(lambda: cache.is_taken_over)
            yield cache
        finally:
            await cache.close()

    return open_cache


async def fetch(cache: ArtifactCache, key: str = KEY) -> tuple[bytes, int]:
    async with cache.lease(ModelKey(key)) as artifact:
        return (artifact.directory / "model").read_bytes(), artifact.fetched_bytes


def on_disk(tmp_path: Path) -> set[str]:
    """Names under models/ and incoming/."""
    found = set()
    for name in ("models", "incoming"):
        found |= {path.name for path in (tmp_path / "cache" / name).iterdir()}
    return found


async def test_an_artifact_is_fetched_once_and_then_comes_from_disk(
    store: CountingStore, opened: Opener
) -> None:
    store.put(KEY, b"one")
    async with opened() as cache:
        async with cache.lease(KEY) as artifact:
            assert tree(artifact.directory) == {"model": b"one"}
            assert artifact.version == await store.head(KEY)
            assert artifact.fetched_bytes == artifact.version.size_bytes
            assert artifact.unpacked_bytes == cache.used_bytes == 4 * KIB
        assert await fetch(cache) == (b"one", 0)
        assert store.sent == [KEY]
        text = cache._metrics.render()[0].decode()
    assert 'ModelDownloadingTime_count{EndpointName="e",VariantName="v"} 1.0' in text
    assert f"mme_fetched_bytes_total {artifact.version.size_bytes}.0" in text
    assert 'mme_disk_bytes{state="used"} 4096.0' in text


async def test_a_restart_fetches_nothing_again(store: CountingStore, opened: Opener) -> None:
    for key in ("a", "b"):
        store.put(key, key.encode())
    async with opened() as cache:
        await fetch(cache, "a")
        await fetch(cache, "b")
    async with opened() as cache:
        assert (cache.count, cache.used_bytes) == (2, 8 * KIB)
        assert await fetch(cache, "a") == (b"a", 0)
    assert store.sent == ["a", "b"]


async def test_a_restart_over_another_store_counts_but_does_not_use_what_is_there(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    store.put("m", b"old place")
    async with opened() as cache:
        await fetch(cache, "m")
    (tmp_path / "other").mkdir()
    other = CountingStore(tmp_path / "other")
    other.put("m", b"new place")
    async with opened(over=other) as cache:
        assert cache.count == 1
        assert (await fetch(cache, "m"))[0] == b"new place"
        assert cache.count == 2
    async with opened(over=other, disk_bytes=4 * KIB) as cache:
        await eventually(lambda: cache.count == 1)
        assert await fetch(cache, "m") == (b"new place", 0)


async def test_debris_is_swept_and_what_is_not_ours_is_left(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    for key in ("whole", "torn", "no note", "no model", "bad note"):
        store.put(key, b"x" * 9000)
    digests = {}
    async with opened() as cache:
        for key in ("whole", "torn", "no note", "no model", "bad note"):
            async with cache.lease(ModelKey(key)) as artifact:
                digests[key] = artifact.version.digest
    models, incoming = tmp_path / "cache" / "models", tmp_path / "cache" / "incoming"
    (models / digests["torn"] / "model").write_bytes(b"")
    (models / f"{digests['no note']}.json").unlink()
    (models / digests["no model"] / "model").unlink()
    (models / digests["no model"]).rmdir()
    (models / f"{digests['bad note']}.json").write_bytes(b'{"location": "\xff')
    (incoming / ("0" * 32)).mkdir()
    (incoming / ("1" * 32 + ".json")).touch()
    (incoming / ("0" * 32) / "half").write_bytes(b"x")
    (models / "mine.tar.gz").write_bytes(b"a user's own")
    async with opened() as cache:
        assert cache.count == 1
        assert await fetch(cache, "whole") == (b"x" * 9000, 0)
        assert (await fetch(cache, "torn"))[1] > 0
    kept = {digests["whole"], digests["torn"]}
    assert on_disk(tmp_path) == kept | {f"{d}.json" for d in kept} | {"mine.tar.gz"}


async def test_a_second_server_is_told_which_setting_to_change(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    async with opened():
        with pytest.raises(ConfigError, match=f"cache_dir: {tmp_path / 'cache'} is in use"):
            async with opened():
                pass
    async with opened():
        pass


async def test_a_cache_dir_that_cannot_be_is_a_setting_to_mend(
    tmp_path: Path, opened: Opener
) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(ConfigError, match=r"cache_dir: .* can't be used"):
        async with opened():
            pass


async def test_a_new_version_is_laid_beside_the_old_one_which_goes_with_its_last_lease(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    store.put(KEY, b"old")
    async with opened() as cache:
        async with cache.lease(KEY) as old:
            store.put(KEY, b"newer")
            async with cache.lease(KEY) as new:
                assert tree(old.directory) == {"model": b"old"}
                assert tree(new.directory) == {"model": b"newer"}
            assert (tree(old.directory), cache.count) == ({"model": b"old"}, 2)
        assert cache.count == 1
        assert await fetch(cache) == (b"newer", 0)
    assert on_disk(tmp_path) == {new.version.digest, f"{new.version.digest}.json"}


async def test_the_least_recently_used_make_room_and_leased_ones_stay(
    store: CountingStore, opened: Opener
) -> None:
    for key in "abcd":
        store.put(key, key.encode() * 4000)
    async with opened(disk_bytes=12 * KIB) as cache:
        async with cache.lease(ModelKey("a")) as first:
            await fetch(cache, "b")
            await fetch(cache, "c")
            await fetch(cache, "b")
            await fetch(cache, "d")  # c goes: a is older but leased, b was used since
            assert tree(first.directory) == {"model": b"a" * 4000}
            assert cache.used_bytes <= cache.budget_bytes
            assert await fetch(cache, "b") == (b"b" * 4000, 0)
        assert store.sent == ["a", "b", "c", "d"]
        await fetch(cache, "c")
        assert store.sent[-1] == "c"


async def test_recency_outlives_a_restart(store: CountingStore, opened: Opener) -> None:
    for key in "abc":
        store.put(key, b"x" * 4000)
    async with opened() as cache:
        await fetch(cache, "a")
        await fetch(cache, "b")
        await fetch(cache, "a")
    async with opened(disk_bytes=8 * KIB) as cache:
        await fetch(cache, "c")
        assert (await fetch(cache, "a"))[1] == 0


async def test_a_budget_full_of_leased_models_is_worth_another_try(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    for key in "ab":
        store.put(key, b"x" * 4000)
    async with opened(disk_bytes=4 * KIB) as cache:
        async with cache.lease(ModelKey("a")):
            with pytest.raises(DiskUnavailable, match="in use"):
                await fetch(cache, "b")
            assert cache.used_bytes == 4 * KIB
        await fetch(cache, "b")


async def test_an_artifact_over_the_whole_budget_is_refused_and_leaves_nothing(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    store.put("large", os.urandom(1_000_000))
    async with opened(disk_bytes=500 * KIB) as cache:
        with pytest.raises(ArtifactRefused, match="setting disk"):
            await fetch(cache, "large")
        assert (cache.used_bytes, cache.count) == (0, 0)
    assert on_disk(tmp_path) == set()


async def test_room_is_made_while_extracting(store: CountingStore, opened: Opener) -> None:
    store.put("small", os.urandom(200_000))
    store.put("large", os.urandom(900_000))
    async with opened(disk_bytes=880 * KIB) as cache:
        await fetch(cache, "small")
        store.gate = asyncio.Event()
        task = asyncio.create_task(fetch(cache, "large"))
        await store.reached.wait()
        await eventually(lambda: cache.count == 0)
        assert cache.used_bytes <= cache.budget_bytes
        store.gate.set()
        await task


@pytest.mark.parametrize("key", ["one", "two"])
async def test_two_leases_of_one_cold_key_are_safe(
    tmp_path: Path, store: CountingStore, opened: Opener, key: str
) -> None:
    store.put("one", b"x" * 9000)
    store.put("two", b"x" * 9000)
    async with opened() as cache:
        store.gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch(cache, name)) for name in ("one", key)]
            await eventually(lambda: len(store.sent) == 2)
            store.gate.set()
        assert [task.result()[0] for task in tasks] == [b"x" * 9000] * 2
        assert cache.count == len({"one", key})
    assert len(on_disk(tmp_path)) == 2 * len({"one", key})


async def test_cancelling_a_fetch_leaves_nothing(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    store.put(KEY, os.urandom(100_000))
    async with opened() as cache:
        store.gate = asyncio.Event()
        task = asyncio.create_task(fetch(cache))
        await store.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cache.used_bytes == 0
        assert on_disk(tmp_path) == set()
        store.gate = None
        assert (await fetch(cache))[1] > 0


async def test_a_refused_artifact_leaves_nothing_and_its_mended_version_works(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    store.put_raw(KEY, tarball({"m": b"x" * 5000})[:-4])
    async with opened() as cache:
        with pytest.raises(ArtifactRefused):
            await fetch(cache)
        assert cache.used_bytes == 0
        assert on_disk(tmp_path) == set()
        store.put(KEY, b"sound")
        assert (await fetch(cache))[0] == b"sound"


async def test_a_discarded_version_goes_with_its_last_lease(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    store.put(KEY, b"corrupt")
    async with opened() as cache:
        async with cache.lease(KEY) as artifact:
            cache.discard(artifact.version)
            assert tree(artifact.directory) == {"model": b"corrupt"}
        assert cache.count == 0
        assert (await fetch(cache))[1] > 0
        cache.discard(artifact.version)
        assert cache.count == 0
    assert on_disk(tmp_path) == set()


async def test_a_deleted_object_is_missing_though_it_lies_on_disk(
    store: CountingStore, opened: Opener
) -> None:
    store.put(KEY, b"x")
    async with opened() as cache:
        await fetch(cache)
        (store.root / KEY).unlink()
        with pytest.raises(ArtifactUnavailable):
            await fetch(cache)


async def test_a_directory_deleted_by_the_operator_is_fetched_again(
    store: CountingStore, opened: Opener
) -> None:
    store.put(KEY, b"x")
    async with opened() as cache:
        async with cache.lease(KEY) as artifact:
            directory = artifact.directory
        (directory / "model").unlink()
        directory.rmdir()
        assert (await fetch(cache))[0] == b"x"
        await eventually(lambda: cache.used_bytes == 4 * KIB)  # a thread removes the rest of it


async def test_above_the_high_watermark_the_least_recently_used_go_down_to_the_low_one(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    for number in range(9):
        store.put(f"{number}", b"x" * 4000)
    async with opened(disk_bytes=40 * KIB, high=0.8, low=0.5) as cache:
        async with cache.lease(ModelKey("0")):
            for number in range(1, 8):
                await fetch(cache, f"{number}")
            assert cache.used_bytes == 32 * KIB  # at the watermark, not above it
            cache.prefer([await store.head(ModelKey("1"))])
            await fetch(cache, "8")
            await eventually(lambda: cache.used_bytes == 20 * KIB)
        kept = {version.key for version in cache._index.versions()}
    assert kept == {"0", "1", "6", "7", "8"}  # 0 is leased, 1 preferred: in use, though old


async def test_two_leases_of_one_cold_version_extract_it_once_and_write_no_tarball(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    store.put(KEY, os.urandom(600_000))
    store.gate = asyncio.Event()
    async with opened() as cache:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch(cache)) for _ in range(5)]
            await eventually(lambda: len(store.sent) == 5)
            await eventually(lambda: cache.used_bytes > 400_000)
            files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
            assert [path.name for path in files if path.stat().st_size] == ["model"]
            store.gate.set()
        fetched = sorted(task.result()[1] for task in tasks)
        assert fetched[:4] == [0, 0, 0, 0]
        assert fetched[4] > 0


async def test_one_that_waits_for_an_extraction_that_is_given_up_makes_its_own(
    store: CountingStore, opened: Opener
) -> None:
    store.put(KEY, os.urandom(100_000))
    store.gate = asyncio.Event()
    async with opened() as cache:
        first = asyncio.create_task(fetch(cache))
        await store.reached.wait()
        second = asyncio.create_task(fetch(cache))
        await eventually(lambda: len(store.sent) == 2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        store.gate.set()
        assert (await second)[1] > 0


async def test_a_cache_dir_deleted_under_the_server_is_made_and_locked_anew(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    for key in "abc":
        store.put(key, key.encode() * 4000)
    async with opened() as cache:
        await fetch(cache, "a")
        await fetch(cache, "b")
        shutil.rmtree(tmp_path / "cache")
        assert (await fetch(cache, "c"))[0] == b"c" * 4000
        await eventually(lambda: (cache.count, cache.used_bytes) == (1, 4 * KIB))
        assert (await fetch(cache, "a"))[1] > 0
        with pytest.raises(ConfigError, match="in use"):
            async with opened():
                pass
    async with opened() as cache:
        assert cache.count == 2


async def test_what_an_earlier_run_left_is_used_before_its_turn_to_be_taken_over(
    tmp_path: Path, store: CountingStore, opened: Opener
) -> None:
    for key in "abc":
        store.put(key, b"x" * 4000)
    async with opened() as cache:
        for key in "abc":
            await fetch(cache, key)
    files = DiskFiles(tmp_path / "cache")
    debris = files.open()
    try:
        index = DiskIndex(files, DiskConfig(), _Never())
        takeover = TakeOver(files, index)
        version = await store.head(ModelKey("a"))
        takeover.look_for([version], is_current=True)
        assert (index.count, index.pin(version).version) == (1, version)
        takeover.run(debris)
        assert takeover.is_complete
        order = [version.key for version in index.versions()]
    finally:
        files.close()
    assert order == ["b", "c", "a"]


async def test_discarding_an_old_version_leaves_the_newest_known(
    store: CountingStore, opened: Opener
) -> None:
    store.put(KEY, b"old")
    async with opened() as cache, cache.lease(KEY) as old:
        store.put(KEY, b"newer")
        await fetch(cache)
        cache.discard(old.version)
        assert await fetch(cache) == (b"newer", 0)


async def test_over_a_real_s3_a_restart_costs_a_condition_and_no_bytes(
    bucket: Bucket, opened: Opener
) -> None:
    bucket.put(f"models/{KEY}", tarball({"model": b"in s3"}))
    config = StoreConfig(models=bucket.url("models"), s3_endpoint=bucket.endpoint)
    for fetched in (True, False):
        s3 = S3Store(config)
        async with contextlib.aclosing(_Closing(s3)), opened(over=s3) as cache:
            data, fetched_bytes = await fetch(cache)
            assert (data, bool(fetched_bytes)) == (b"in s3", fetched)
            if not fetched:
                bucket.put(f"models/{KEY}", tarball({"model": b"overwritten"}))
                assert (await fetch(cache))[0] == b"overwritten"


async def test_an_s3_that_is_gone_is_the_stores_fault_though_the_model_lies_on_disk(
    bucket: Bucket, opened: Opener
) -> None:
    bucket.put(f"models/{KEY}", tarball({"model": b"in s3"}))
    config = StoreConfig(models=bucket.url("models"), s3_endpoint=bucket.endpoint)
    here = S3Store(config)
    async with contextlib.aclosing(_Closing(here)), opened(over=here) as cache:
        await fetch(cache)
    gone = S3Store(StoreConfig(models=config.models, s3_endpoint="http://127.0.0.1:9"))
    async with contextlib.aclosing(_Closing(gone)), opened(over=gone) as cache:
        with pytest.raises(StoreUnavailable):
            await fetch(cache)
        assert cache.count == 1


class _Never(Executor):
    """Runs nothing."""

    def submit(self, *_arguments: object) -> None:
        raise RuntimeError("closed")


class _Closing:
    """Closes a store on leaving."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    async def aclose(self) -> None:
        await self._store.close()
