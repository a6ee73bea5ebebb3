"""Objects in ranges: the right bytes in order, of one version, and few at once."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.config import DiskConfig, StoreConfig
from mme.domain import ModelKey
from mme.errors import ObjectChanged, ReadFailed, StoreUnavailable
from mme.metrics import Metrics
from mme.store.artifacts import ArtifactCache
from mme.store.base import ArtifactStream
from mme.store.ranges import Span
from mme.store.s3 import S3Store
from tests.buckets import Bucket
from tests.eventually import eventually
from tests.raw_http import RawServer, reply, serve_raw
from tests.tarballs import tar

KEY = ModelKey("m.tar.gz")
RANGE = 100_000
BODY = bytes(range(251)) * 4_000  # 1,004,000 bytes: no range is like another
AT_ONCE = 3


@contextlib.asynccontextmanager
async def far_store(endpoint: str, models: str, at_once: int = AT_ONCE) -> AsyncIterator[S3Store]:
    config = StoreConfig(
        models=models, s3_endpoint=endpoint, s3_ranges=at_once, s3_range_bytes=RANGE
    )
    store = S3Store(config)
    try:
        yield store
    finally:
        await store.close()


async def read(store: S3Store) -> bytes:
    async with store.open(KEY) as stream:
        assert stream is not None
        data = b"".join([chunk async for chunk in stream.chunks])
    assert stream.version.size_bytes == len(data)
    return data


@pytest.mark.parametrize("size", [0, 1, RANGE - 1, RANGE, RANGE + 1, 3 * RANGE, len(BODY)])
async def test_a_real_s3_gives_the_same_bytes_in_ranges(bucket: Bucket, size: int) -> None:
    bucket.put(KEY, BODY[:size])
    async with far_store(bucket.endpoint, bucket.url()) as store:
        for _ in range(2):  # by botocore's GETs and by our own
            assert await read(store) == BODY[:size]
        async with store.open(KEY, await store.head(KEY)) as unchanged:
            assert unchanged is None


async def test_an_object_overwritten_in_the_middle_is_never_mixed(bucket: Bucket) -> None:
    bucket.put(KEY, BODY)
    async with far_store(bucket.endpoint, bucket.url()) as store:
        async with store.open(KEY) as stream:
            assert stream is not None
            await anext(stream.chunks)
            bucket.put(KEY, BODY[::-1])
            with pytest.raises(ObjectChanged, match="changed while it was read"):
                [_ async for _ in stream.chunks]
        assert await read(store) == BODY[::-1]


class Overwritten(S3Store):
    """Its object is overwritten when the first bytes of it have been read, so often."""

    bucket: Bucket
    versions: list[bytes]

    @contextlib.asynccontextmanager
    async def open(self, key: ModelKey, known: object = None) -> AsyncIterator[ArtifactStream]:
        async with super().open(key, None) as stream:
            assert stream is not None
            yield ArtifactStream(stream.version, self._overwriting(stream.chunks))

    async def _overwriting(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield await anext(chunks)
        if self.versions:
            self.bucket.put(KEY, self.versions.pop())
        async for chunk in chunks:
            yield chunk


@pytest.mark.parametrize(("times", "is_served"), [(1, True), (2, True), (3, False)])
async def test_the_disk_tier_starts_anew_with_what_an_object_was_overwritten_by(
    bucket: Bucket, tmp_path: Path, times: int, is_served: bool
) -> None:
    versions = [tar({"model": bytes([n]) + BODY}) for n in range(times + 1)]
    bucket.put(KEY, versions.pop())
    config = StoreConfig(
        models=bucket.url(), s3_endpoint=bucket.endpoint, s3_ranges=2, s3_range_bytes=RANGE
    )
    store = Overwritten(config)
    store.bucket, store.versions = bucket, versions
    cache = ArtifactCache(store, DiskConfig(cache_dir=str(tmp_path / "c")), Metrics("e", "v"))
    await cache.start()
    try:
        if is_served:
            async with cache.lease(KEY) as artifact:
                assert (artifact.directory / "model").read_bytes() == b"\0" + BODY
        else:
            with pytest.raises(ObjectChanged):
                async with cache.lease(KEY):
                    pass
        assert not list((tmp_path / "c" / "incoming").iterdir())
    finally:
        await cache.close()
        await store.close()


class FarS3:
    """Answers with the range asked for, or as `faults` says of its start, in turn."""

    def __init__(self, *, hold: int = 0, **faults: list[str]) -> None:
        self.hold = hold  # answers but the first until so many are under way
        self.faults = faults
        self.asked: list[int] = []
        self.under_way = self.most = 0
        self.full = asyncio.Event()
        self.server: RawServer

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = re.search(rb"(?i)\r\nrange: bytes=(\d+)-(\d+)\r\n", self.server.requests[-1])
        assert found is not None
        start, stop = int(found[1]), min(int(found[2]) + 1, len(BODY))
        self.asked.append(start)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.under_way >= self.hold:
            self.full.set()
        try:
            if start:
                await self.full.wait()
            waiting = self.faults.get(f"at_{start}")
            await self._answer(start, stop, waiting.pop(0) if waiting else "none")(reader, writer)
        finally:
            self.under_way -= 1

    def _answer(self, start: int, stop: int, fault: str) -> Any:
        told = {"ETag": '"e2"' if fault == "changed" else '"e1"'}
        if fault == "whole":
            return reply("200 OK", BODY, **told)
        if fault in ("500", "412"):
            return reply(f"{fault} No", f"<Error><Code>{fault}</Code></Error>".encode())
        told["Content_Range"] = f"bytes {start}-{stop - 1}/{len(BODY)}"
        if fault == "cut":
            return reply("206 Part", BODY[start : stop - 9], announce=stop - start, **told)
        return reply("206 Part", BODY[start:stop], **told)


@contextlib.asynccontextmanager
async def far_s3(far: FarS3, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with serve_raw(far) as far.server, far_store(far.server.endpoint, "s3://b/") as store:
        yield store


async def test_so_many_ranges_are_under_way_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    far = FarS3(hold=AT_ONCE)
    async with far_s3(far, monkeypatch) as store:
        assert await read(store) == BODY
    assert far.most == AT_ONCE


async def test_a_range_that_breaks_off_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    far = FarS3(at_200000=["cut", "cut"], at_500000=["500", "cut"])
    async with far_s3(far, monkeypatch) as store:
        assert await read(store) == BODY
    assert far.asked.count(200_000) == 3
    assert far.asked.count(300_000) == 1


async def test_a_range_that_breaks_off_again_and_again_is_no_reason_to_read_all_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    far = FarS3(at_200000=["cut"] * 3)
    async with far_s3(far, monkeypatch) as store:
        with pytest.raises(StoreUnavailable, match="broke off") as caught:
            await read(store)
    assert not isinstance(caught.value, ReadFailed)


async def test_a_first_range_that_breaks_off_is_a_reason_to_read_all_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    far = FarS3(at_0=["cut"])
    async with far_s3(far, monkeypatch) as store:
        with pytest.raises(ReadFailed, match="broke off"):
            await read(store)
        assert await read(store) == BODY


@pytest.mark.parametrize("fault", ["changed", "412", "whole"])
async def test_a_range_of_something_else_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    far = FarS3(at_700000=[fault])
    async with far_s3(far, monkeypatch) as store:
        with pytest.raises(ObjectChanged):
            await read(store)
        assert await read(store) == BODY


async def test_an_s3_without_ranges_is_read_in_one_get(monkeypatch: pytest.MonkeyPatch) -> None:
    far = FarS3(at_0=["whole"])
    async with far_s3(far, monkeypatch) as store:
        assert await read(store) == BODY
    assert far.asked == [0]


async def test_leaving_early_ends_every_range(monkeypatch: pytest.MonkeyPatch) -> None:
    far = FarS3()
    async with far_s3(far, monkeypatch) as store, store.open(KEY) as stream:
        assert stream is not None
        assert BODY.startswith(await anext(stream.chunks))
    assert len(far.asked) <= AT_ONCE + 1


async def test_who_does_not_read_on_has_a_few_ranges_waiting_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    far = FarS3()
    async with far_s3(far, monkeypatch) as store, store.open(KEY) as stream:
        assert stream is not None
        read_bytes = 0
        while read_bytes <= RANGE:  # the first is passed on, the second begun
            read_bytes += len(await anext(stream.chunks))
        await eventually(lambda: far.asked[-1] == 4 * RANGE and not far.under_way)
    assert max(far.asked) == (1 + AT_ONCE) * RANGE


@given(total=st.integers(0, 2_000), size=st.integers(1, 300))
def test_the_spans_behind_the_first_are_the_rest_of_the_object_once(total: int, size: int) -> None:
    first = Span(0, min(size, total))
    spans = [first, *first.others(total)]
    assert [n for span in spans for n in range(span.start, span.stop)] == list(range(total))


@given(st.text("bytes 0123456789-/*", max_size=20))
def test_a_content_range_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        span, total = Span.told(text)
        assert text == f"bytes {span.start}-{span.stop - 1}/{total}" or "0" in text
