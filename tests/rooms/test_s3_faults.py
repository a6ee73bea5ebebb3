"""The S3 door when S3, the way to it or the credentials fail: our errors only, and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from mme.config import StoreConfig
from mme.domain import ArtifactVersion, ModelKey
from mme.errors import ArtifactUnavailable, MmeError, ReadFailed, StoreUnavailable
from mme.store.ranges import Span
from mme.store.s3 import S3Store
from tests.buckets import Bucket
from tests.raw_http import Answer, raw, reply, serve_raw, silent_after

KEY = ModelKey("m.tar.gz")
GOOD = reply("200 OK", b"body", ETag='"e1"')


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@contextlib.asynccontextmanager
async def store_at(
    endpoint: str, models: str = "s3://bucket/models/", read_seconds: float = 5.0
) -> AsyncIterator[S3Store]:
    config = StoreConfig(models=models, s3_endpoint=endpoint, s3_read_seconds=read_seconds)
    store = S3Store(config)
    try:
        yield store
    finally:
        await store.close()


async def read(store: S3Store, known: ArtifactVersion | None = None) -> bytes | None:
    async with store.open(KEY, known) as stream:
        return stream and b"".join([chunk async for chunk in stream.chunks])


def refusal(status: str, code: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>a secret inside</Message></Error>"
    return reply(status, body.encode())


CHUNKED = b"HTTP/1.1 200 OK\r\nETag: e1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply("200 OK", b"bo", announce=4, ETag='"e1"'), ReadFailed),
        (raw(CHUNKED), StoreUnavailable),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"), StoreUnavailable),
        (silent_after(b"HTTP/1.1 200 OK\r\nETag: e1\r\nContent-Length: 4\r\n\r\nbo"), ReadFailed),
    ],
    ids=["cut short", "no length", "no etag", "silent in mid-body"],
)
async def test_a_broken_body_is_the_stores_fault_and_worth_reading_anew_where_it_broke_off(
    answer: Answer, error: type[MmeError]
) -> None:
    async with serve_raw(answer) as server, store_at(server.endpoint, read_seconds=0.3) as store:
        with pytest.raises(MmeError) as caught:
            await read(store)
    assert type(caught.value) is error
    assert "models/m.tar.gz" in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        refusal("503 Slow Down", "SlowDown"),
        refusal("500 Internal Server Error", "InternalError"),
        silent_after(b""),
        raw(b""),
        raw(b"SSH-2.0-OpenSSH\r\n"),
    ],
    ids=["slow down", "internal", "silent", "closed", "no http"],
)
async def test_a_failing_s3_is_asked_thrice_and_then_reported(answer: Answer) -> None:
    async with serve_raw(answer) as server, store_at(server.endpoint, read_seconds=0.2) as store:
        with pytest.raises(StoreUnavailable) as caught:
            await read(store)
        assert not isinstance(caught.value, ReadFailed)  # botocore has tried often enough
        assert b"attempt=3; max=3" in server.requests[-1]
    assert "secret inside" not in str(caught.value)


async def test_a_passing_failure_is_not_noticed() -> None:
    async with (
        serve_raw(refusal("503 Slow Down", "SlowDown"), GOOD) as server,
        store_at(server.endpoint) as store,
    ):
        assert await read(store) == b"body"


async def test_nobody_listening_is_the_stores_fault() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with store_at(f"http://127.0.0.1:{free.getsockname()[1]}") as store:
            with pytest.raises(StoreUnavailable, match="does not answer"):
                await read(store)
            with pytest.raises(StoreUnavailable):
                await store.probe()


async def test_an_s3_that_ignores_the_condition_is_taken_at_its_etag() -> None:
    known = ArtifactVersion(location="s3://bucket/models/", key=KEY, etag="e1", size_bytes=4)
    async with serve_raw(GOOD) as server, store_at(server.endpoint) as store:
        assert await read(store, known) is None
        assert b'if-none-match: "e1"' in server.requests[0].lower()


@pytest.mark.parametrize(
    "answer",
    [reply("304 Not Modified", b"", ETag='"e1"'), refusal("404 Not Found", "NoSuchKey")],
    ids=["unchanged", "not there"],
)
async def test_after_one_answer_of_its_place_botocore_is_not_asked_again(answer: Answer) -> None:
    known = ArtifactVersion(location="s3://bucket/models/", key=KEY, etag="e1", size_bytes=4)
    async with serve_raw(answer) as server, store_at(server.endpoint) as store:
        for _ in range(2):
            with contextlib.suppress(ArtifactUnavailable):
                assert await read(store, known) is None
    assert [b"amz-sdk-request" in request for request in server.requests] == [True, False]


@pytest.mark.parametrize("models", ["s3://bucket/a/b", "s3://bucket/a/b/", "s3://bucket//a/b//"])
async def test_prefix_and_key_are_joined_by_one_slash(models: str) -> None:
    async with serve_raw(GOOD) as server, store_at(server.endpoint, models) as store:
        await read(store)
        assert server.requests[0].startswith(b"GET /bucket/a/b/m.tar.gz")
        assert store.location == "s3://bucket/a/b/"


async def test_a_bucket_without_prefix_needs_no_slash() -> None:
    async with serve_raw(GOOD) as server, store_at(server.endpoint, "s3://bucket") as store:
        await read(store)
        assert server.requests[0].startswith(b"GET /bucket/m.tar.gz")


async def test_a_policy_for_the_prefix_alone_passes_the_probe() -> None:
    async with (
        serve_raw(refusal("403 Forbidden", "AccessDenied")) as server,
        store_at(server.endpoint) as store,
    ):
        await store.probe()
        with pytest.raises(ArtifactUnavailable) as caught:
            await read(store)
    assert caught.value.reason == "denied"
    assert caught.value.key == "models/m.tar.gz"


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeTooSkewed", "InvalidAccessKeyId"])
async def test_refused_credentials_are_the_operators_to_mend(code: str) -> None:
    async with (
        serve_raw(refusal("403 Forbidden", code)) as server,
        store_at(server.endpoint) as store,
    ):
        with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID"):
            await read(store)
        with pytest.raises(StoreUnavailable, match=code):
            await store.probe()


async def test_no_credentials_are_the_operators_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with serve_raw(GOOD) as server, store_at(server.endpoint) as store:
        with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID"):
            await store.probe()
        assert server.requests == []


async def test_a_profile_that_does_not_exist_is_the_operators_to_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    async with serve_raw(GOOD) as server, store_at(server.endpoint) as store:
        with pytest.raises(StoreUnavailable, match="ProfileNotFound"):
            await read(store)


async def test_cancelling_a_request_under_way_closes_its_connection() -> None:
    came = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read()

    async with serve_raw(answer) as server, store_at(server.endpoint) as store:
        task = asyncio.create_task(read(store))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
async def test_a_real_s3_that_refuses_the_login_is_the_operators_to_mend(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bucket.put(KEY, b"x")
    monkeypatch.setenv(name, "test:wrong")
    async with store_at(bucket.endpoint, bucket.url()) as store:
        for attempt in (store.probe(), read(store), store.head(KEY)):
            with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID"):
                await attempt


async def test_a_real_s3_that_denies_the_object_is_the_requests_fault(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(KEY, b"x")
    for name, value in bucket.stranger_environment.items():
        monkeypatch.setenv(name, value)
    async with store_at(bucket.endpoint, bucket.url()) as store:
        for attempt in (read(store), store.head(KEY)):
            with pytest.raises(ArtifactUnavailable) as caught:
                await attempt
            assert caught.value.reason == "denied"
            assert caught.value.bucket == bucket.name


async def test_bytes_are_counted_here_whatever_the_http_library_lets_through() -> None:
    class Body:
        @property
        def content(self) -> Body:
            return self

        async def iter_chunked(self, _size_bytes: int) -> AsyncIterator[bytes]:
            yield b"bo"

    version = ArtifactVersion(location="s3://bucket/models/", key=KEY, etag="e1", size_bytes=4)
    async with store_at("http://127.0.0.1:9") as store:
        with pytest.raises(ReadFailed, match="2 of 4 bytes"):
            [chunk async for chunk in store._read(Body(), version, Span(0, 4))]
