"""Bytes from S3 held against their ETag, where nothing else vouches for them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator

import pytest

from mme.config import StoreConfig
from mme.domain import ArtifactVersion, ModelKey
from mme.errors import ReadFailed
from mme.store.etags import Etags
from mme.store.s3 import S3Store
from tests.raw_http import reply, serve_raw

TAR = b"a plain tar, which has no checksum"
ETAG = hashlib.md5(TAR, usedforsecurity=False).hexdigest()
FLIPPED = TAR.replace(b"plain", b"plaim")
"""As long, and as good a tar to whoever reads it."""
KEY = ModelKey("m.tar")
KMS = {"x-amz-server-side-encryption": "aws:kms"}
OTHER_KMS = {"x-amz-server-side-encryption": "aws:kms:dsse"}
CUSTOMER = {"x-amz-server-side-encryption-customer-algorithm": "AES256"}


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 5):
        yield body[start : start + 5]


async def taken(etags: Etags, body: bytes, etag: str = ETAG, headers: dict | None = None) -> bytes:
    version = ArtifactVersion(location="s3://b/", key=KEY, etag=etag, size_bytes=len(body))
    return b"".join([piece async for piece in etags.compared(pieces(body), version, headers or {})])


async def test_bytes_that_were_flipped_on_the_way_are_not_taken() -> None:
    etags = Etags()
    assert await taken(etags, TAR) == TAR
    with pytest.raises(ReadFailed, match="not those that its ETag names"):
        await taken(etags, FLIPPED)
    assert await taken(etags, TAR, headers={"x-amz-server-side-encryption": "AES256"}) == TAR
    with pytest.raises(ReadFailed):
        await taken(etags, FLIPPED[:-1] + b"?", headers={"x-amz-server-side-encryption": "AES256"})


@pytest.mark.parametrize(
    ("etag", "headers"),
    [(f"{ETAG}-2", {}), ("an opaque one", {}), (ETAG, KMS), (ETAG, OTHER_KMS), (ETAG, CUSTOMER)],
)
async def test_an_etag_that_says_nothing_of_the_bytes_is_not_compared(etag, headers) -> None:
    assert await taken(Etags(), FLIPPED, etag, headers) == FLIPPED


async def test_a_gzip_is_left_to_its_own_checksum() -> None:
    assert await taken(Etags(), b"\x1f\x8b" + FLIPPED) == b"\x1f\x8b" + FLIPPED


async def test_a_store_whose_etags_are_no_md5s_is_found_out_and_then_believed() -> None:
    etags, no_md5 = Etags(), "0" * 32
    with pytest.raises(ReadFailed):
        await taken(etags, TAR, no_md5)
    with pytest.raises(ReadFailed):
        await taken(etags, FLIPPED, no_md5)  # other bytes prove nothing
    with pytest.raises(ReadFailed):
        await taken(etags, TAR, no_md5)
    assert [await taken(etags, TAR, number * 32) for number in "012"] == [TAR, TAR, TAR]


async def test_a_reader_that_goes_away_closes_the_body() -> None:
    closed = []

    async def body() -> AsyncIterator[bytes]:
        try:
            yield TAR
            yield TAR
        finally:
            closed.append(True)

    version = ArtifactVersion(location="s3://b/", key=KEY, etag=ETAG, size_bytes=2 * len(TAR))
    reading = Etags().compared(body(), version, {})
    assert await anext(reading) == TAR
    await reading.aclose()
    assert closed == [True]


async def test_what_s3_sends_is_compared(monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    flipped, good = (reply("200 OK", body, ETag=f'"{ETAG}"') for body in (FLIPPED, TAR))
    async with serve_raw(flipped, good) as server:
        store = S3Store(StoreConfig(models="s3://bucket/", s3_endpoint=server.endpoint))
        async with closing(store):
            with pytest.raises(ReadFailed, match="not those that its ETag names"):
                await read(store)
            assert await read(store) == TAR


@contextlib.asynccontextmanager
async def closing(store: S3Store) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await store.close()


async def read(store: S3Store) -> bytes:
    async with store.open(KEY) as stream:
        return b"".join([piece async for piece in stream.chunks])
