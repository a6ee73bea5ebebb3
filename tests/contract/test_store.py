"""What every store does, on a real S3 and on a directory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from mme.config import StoreConfig
from mme.domain import ModelKey
from mme.errors import ArtifactUnavailable, StoreUnavailable
from mme.store.base import Store
from mme.store.open_store import open_store
from tests.buckets import Bucket

KEY = ModelKey("tenant 1/ä model.tar.gz")
LARGE = bytes(range(256)) * 16 * 1024  # 4 MiB: more than buffers on the way hold


class Shelf(Protocol):
    """Where the test puts objects, and the store that sees them."""

    store: Store

    def put(self, key: str, data: bytes) -> None: ...
    def delete(self, key: str) -> None: ...


class BucketShelf:
    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        config = StoreConfig(models=bucket.url("models"), s3_endpoint=bucket.endpoint)
        self.store = open_store(config)
        self.empty = open_store(replace(config, models="s3://no-such-bucket/models/"))

    def put(self, key: str, data: bytes) -> None:
        self._bucket.put(f"models/{key}", data)

    def delete(self, key: str) -> None:
        self._bucket.delete(f"models/{key}")


class DirectoryShelf:
    def __init__(self, directory: Path) -> None:
        self._root = directory / "models"
        self._root.mkdir()
        (directory / "gone").mkdir()
        self.store = open_store(StoreConfig(models=str(self._root)))
        self.empty = open_store(StoreConfig(models=str(directory / "gone")))
        (directory / "gone").rmdir()

    def put(self, key: str, data: bytes) -> None:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name("fresh")
        fresh.write_bytes(data)
        fresh.replace(path)

    def delete(self, key: str) -> None:
        (self._root / key).unlink()


@pytest.fixture(params=["s3", "files"])
async def shelf(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    swift: object,  # named, as conftest gives the first test that names it the time to start it
) -> AsyncIterator[Shelf]:
    if request.param == "s3":
        shelf = BucketShelf(request.getfixturevalue("bucket"))
    else:
        shelf = DirectoryShelf(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(shelf.store.close)
        stack.push_async_callback(shelf.empty.close)
        yield shelf


async def read(store: Store, key: str = KEY) -> bytes:
    async with store.open(ModelKey(key)) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


async def test_an_object_is_read_whole_and_named_by_its_version(shelf: Shelf) -> None:
    shelf.put(KEY, LARGE)
    async with shelf.store.open(KEY) as stream:
        data = b"".join([chunk async for chunk in stream.chunks])
    assert data == LARGE
    assert stream.version.key == KEY
    assert stream.version.size_bytes == len(LARGE)
    assert stream.version.location == shelf.store.location
    assert stream.version.location.endswith("/models/")
    assert await shelf.store.head(KEY) == stream.version


async def test_an_empty_object_has_no_bytes(shelf: Shelf) -> None:
    shelf.put(KEY, b"")
    assert await read(shelf.store) == b""


async def test_an_unchanged_object_is_not_sent_again(shelf: Shelf) -> None:
    shelf.put(KEY, LARGE)
    known = await shelf.store.head(KEY)
    async with shelf.store.open(KEY, known) as stream:
        assert stream is None


async def test_an_overwritten_object_is_another_version(shelf: Shelf) -> None:
    shelf.put(KEY, b"old")
    known = await shelf.store.head(KEY)
    shelf.put(KEY, b"new")
    async with shelf.store.open(KEY, known) as stream:
        assert b"".join([chunk async for chunk in stream.chunks]) == b"new"
    assert stream.version.etag != known.etag
    assert stream.version.digest != known.digest


async def test_a_deleted_object_is_missing_even_where_it_is_known(shelf: Shelf) -> None:
    shelf.put(KEY, b"old")
    known = await shelf.store.head(KEY)
    shelf.delete(KEY)
    with pytest.raises(ArtifactUnavailable) as caught:
        async with shelf.store.open(KEY, known):
            pass
    assert caught.value.reason == "missing"


@pytest.mark.parametrize(
    "key", ["absent", "tenant 1", "tenant 1/", "../models/there", "there/../there", "there/x", ""]
)
async def test_what_is_no_object_is_missing_and_named(shelf: Shelf, key: str) -> None:
    shelf.put(KEY, b"x")
    shelf.put("there", b"x")
    with pytest.raises(ArtifactUnavailable) as caught:
        await read(shelf.store, key)
    assert caught.value.reason == "missing"
    assert caught.value.key.endswith(key)
    with pytest.raises(ArtifactUnavailable):
        await shelf.store.head(ModelKey(key))


async def test_a_new_object_is_seen_at_once(shelf: Shelf) -> None:
    with pytest.raises(ArtifactUnavailable):
        await read(shelf.store)
    shelf.put(KEY, b"x")
    assert await read(shelf.store) == b"x"


async def test_many_objects_are_read_at_once(shelf: Shelf) -> None:
    for number in range(20):
        shelf.put(f"m{number}", bytes([number]) * 100_000)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(read(shelf.store, f"m{n % 20}")) for n in range(80)]
    assert [task.result() for task in tasks] == [bytes([n % 20]) * 100_000 for n in range(80)]


async def test_leaving_early_closes_and_the_store_goes_on(shelf: Shelf) -> None:
    shelf.put(KEY, LARGE)
    for _ in range(3):
        async with shelf.store.open(KEY) as stream:
            assert await anext(stream.chunks)
    assert await read(shelf.store) == LARGE


async def test_a_cancelled_read_closes_and_the_store_goes_on(shelf: Shelf) -> None:
    shelf.put(KEY, LARGE)
    began = asyncio.Event()

    async def stay() -> None:
        async with shelf.store.open(KEY) as stream:
            async for _ in stream.chunks:
                began.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(stay())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await read(shelf.store) == LARGE


async def test_an_error_of_the_reader_is_not_taken_for_the_stores(shelf: Shelf) -> None:
    shelf.put(KEY, LARGE)
    with pytest.raises(OSError, match="mine"):
        async with shelf.store.open(KEY):
            raise OSError("mine")


async def test_a_store_that_is_there_passes_the_probe(shelf: Shelf) -> None:
    await shelf.store.probe()


async def test_a_store_that_is_not_there_fails_the_probe(shelf: Shelf) -> None:
    with pytest.raises(ArtifactUnavailable):
        await shelf.empty.probe()


async def test_a_store_that_is_not_there_has_no_objects(shelf: Shelf) -> None:
    with pytest.raises((ArtifactUnavailable, StoreUnavailable)):
        await shelf.empty.head(KEY)
