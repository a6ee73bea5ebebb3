"""GETs after the first one: what comes, how it fails, which connections are used again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from mme.config import StoreConfig
from mme.domain import ModelKey
from mme.errors import ArtifactUnavailable, MmeError, ReadFailed, StoreUnavailable
from mme.store.s3 import S3Store
from tests.certificates import issue
from tests.raw_http import Answer, RawServer, raw, reply, serve_raw, silent_after

KEY = ModelKey("m.tar.gz")
LEARNED = reply("200 OK", b"first", ETag='"e0"')
LARGE = random.Random(1).randbytes(5 * 1024**2 + 77)
Run = Callable[[Awaitable[None]], None]


@pytest.fixture(scope="module", autouse=True)
def begun() -> None:
    """The first loop of libuv's leaves a pipe for signals, for good."""
    uvloop.run(asyncio.sleep(0))


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """On the loop of the standard library and on that of the server."""
    found: Run = request.param
    return found


@contextlib.asynccontextmanager
async def learned(
    *answers: Answer, read_seconds: float = 5.0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[S3Store, RawServer]]:
    """A store that has asked once, so that botocore is not asked again, and its S3."""
    async with serve_raw(LEARNED, *answers, tls=tls) as server:
        config = StoreConfig(
            models="s3://bucket/", s3_endpoint=server.endpoint, s3_read_seconds=read_seconds
        )
        store = S3Store(config)
        try:
            assert await read(store) == b"first"
            yield store, server
        finally:
            await store.close()


async def read(store: S3Store) -> bytes | None:
    async with store.open(KEY) as stream:
        return stream and b"".join([chunk async for chunk in stream.chunks])


def asked_by_botocore(server: RawServer) -> list[bool]:
    return [b"amz-sdk-request" in request for request in server.requests]


def in_pieces(body: bytes, seed: int) -> Answer:
    """The head and `body`, cut anywhere."""
    chance = random.Random(seed)
    whole = f'HTTP/1.1 200 OK\r\nETag: "e1"\r\nContent-Length: {len(body)}\r\n\r\n'.encode() + body

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at = 0
        while at < len(whole):
            size = chance.choice([1, 3_000, 70_000, 300_000, 1_500_000])
            writer.write(whole[at : at + size])
            await writer.drain()
            await asyncio.sleep(chance.choice([0, 0, 0.002]))
            at += size

    return answer


@pytest.mark.parametrize("size", [0, 5, 1024**2 - 1, 1024**2, 1024**2 + 1, len(LARGE)])
def test_bodies_come_whole_and_their_connection_is_used_again(run: Run, size: int) -> None:
    async def ask() -> None:
        answers = [in_pieces(LARGE[:size], seed) for seed in range(4)]
        async with learned(*answers) as (store, server):
            for _ in answers:
                assert await read(store) == LARGE[:size]
            assert asked_by_botocore(server) == [True, *[False] * len(answers)]
            assert server.connections == 1

    run(ask())


def test_a_large_body_comes_in_large_pieces(run: Run) -> None:
    piece_bytes = 256 * 1024

    async def ask() -> None:
        async with learned(in_pieces(LARGE, 7)) as (store, _server), store.open(KEY) as stream:
            assert stream is not None
            sizes = [len(chunk) async for chunk in stream.chunks]
            assert (
                sizes.count(piece_bytes) >= len(LARGE) // piece_bytes - 2
            )  # some came with the head

    run(ask())


def test_bodies_come_whole_over_tls(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = issue(tmp_path, "s3")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def ask() -> None:
        async with learned(*(in_pieces(LARGE, seed) for seed in range(3)), tls=context) as (
            store,
            server,
        ):
            for _ in range(3):
                assert await read(store) == LARGE
            assert (asked_by_botocore(server), server.connections) == ([True, *[False] * 3], 1)

    run(ask())


@pytest.mark.parametrize("size", [4, len(LARGE)])
@pytest.mark.parametrize("is_silent", [True, False], ids=["silent", "cut short"])
def test_a_body_that_breaks_off_is_the_stores_fault(run: Run, size: int, is_silent: bool) -> None:
    head = f'HTTP/1.1 200 OK\r\nETag: "e1"\r\nContent-Length: {size}\r\n\r\n'.encode()
    begun = head + LARGE[: size // 2]
    broken = silent_after(begun) if is_silent else raw(begun)
    sound = reply("200 OK", b"sound", ETag='"e1"')

    async def ask() -> None:
        async with learned(broken, sound, read_seconds=0.3) as (store, server):
            with pytest.raises(ReadFailed):
                await read(store)
            assert await read(store) == b"sound"
            assert asked_by_botocore(server) == [True, False, False]
            assert server.connections == 2

    run(ask())


def test_a_missing_object_is_told_by_one_request_also_in_chunks(run: Run) -> None:
    body = b"<Error><Code>NoSuchKey</Code></Error>"
    chunked = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked % (len(body), body))

    async def ask() -> None:
        async with learned(answer) as (store, server):
            for _ in range(3):
                with pytest.raises(ArtifactUnavailable) as caught:
                    await read(store)
                assert caught.value.reason == "missing"
            assert asked_by_botocore(server) == [True, False, False, False]
            assert server.connections == 1

    run(ask())


@pytest.mark.parametrize(
    "odd",
    [
        raw(b"rubbish\r\n\r\n"),
        raw(b"HTTP/1.1 100 Continue\r\n\r\n"),
        raw(b""),
        reply("503 Slow Down", b"<Error><Code>SlowDown</Code></Error>"),
        reply("301 Moved", Location="http://127.0.0.1:9/elsewhere"),
        reply("200 OK", b"x" * 9000, ETag='"' + "e" * 9000 + '"'),
    ],
    ids=["rubbish", "continue", "closed", "busy", "moved", "endless header"],
)
def test_what_is_no_plain_answer_is_asked_for_by_botocore(run: Run, odd: Answer) -> None:
    async def ask() -> None:
        async with learned(odd, reply("200 OK", b"sound", ETag='"e1"')) as (store, server):
            assert await read(store) == b"sound"
            assert asked_by_botocore(server) == [True, False, True]
            assert await read(store) == b"sound"
            assert asked_by_botocore(server) == [True, False, True, False]

    run(ask())


def test_what_came_unasked_is_not_the_next_answer(run: Run) -> None:
    forged = b'HTTP/1.1 200 OK\r\nETag: "e9"\r\nContent-Length: 6\r\n\r\nforged'

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "e1"\r\nContent-Length: 5\r\n\r\nsound')
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(forged)

    async def ask() -> None:
        async with learned(answer) as (store, _server):
            for _ in range(3):
                assert await read(store) == b"sound"
                await asyncio.sleep(0.2)

    run(ask())


@pytest.mark.parametrize("more", [b"", b"forged" * 100_000])
def test_more_than_was_announced_of_a_large_body_is_not_the_next_answer(
    run: Run, more: bytes
) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f'HTTP/1.1 200 OK\r\nETag: "e1"\r\nContent-Length: {len(LARGE)}\r\n\r\n'
        writer.write(head.encode() + LARGE + more)
        await writer.drain()

    async def ask() -> None:
        async with learned(answer) as (store, server):
            for _ in range(3):
                assert await read(store) == LARGE
                await asyncio.sleep(0.1)
            assert (server.connections == 1) == (not more)

    run(ask())


def test_who_takes_slowly_is_waited_for_and_not_blamed(run: Run) -> None:
    sent = asyncio.Event()
    body = bytes(64 * 1024**2)

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f'HTTP/1.1 200 OK\r\nETag: "e1"\r\nContent-Length: {len(body)}\r\n\r\n'
        writer.write(head.encode() + body)
        await writer.drain()
        sent.set()

    async def ask() -> None:
        async with learned(answer, read_seconds=0.3) as (store, _server):
            async with store.open(KEY) as stream:
                assert stream is not None
                chunks = stream.chunks
                came = len(await anext(chunks))
                await asyncio.sleep(1.0)
                assert not sent.is_set()  # it is not all in memory here
                async for chunk in chunks:
                    came += len(chunk)
            assert came == len(body)

    run(ask())


@pytest.mark.parametrize("begun", [b"", LARGE[:1000]], ids=["before the head", "in mid-body"])
def test_cancelling_closes_the_connection(run: Run, begun: bytes) -> None:
    came, gone = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if begun:
            head = f'HTTP/1.1 200 OK\r\nETag: "e1"\r\nContent-Length: {len(LARGE)}\r\n\r\n'
            writer.write(head.encode() + begun)
        came.set()
        await reader.read()
        gone.set()

    async def ask() -> None:
        async with learned(answer) as (store, _server):
            task = asyncio.create_task(read(store))
            await came.wait()
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(gone.wait(), 5)

    run(ask())


def test_a_line_break_in_a_header_is_not_sent(run: Run) -> None:
    async def ask() -> None:
        async with learned(LEARNED) as (store, server):
            assert store._direct is not None
            assert await store._direct.get("k", {"If-Match": "a\r\nX-Forged: 1"}) is None
            assert len(server.requests) == 1

    run(ask())


def test_behind_a_proxy_botocore_asks_each_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        async with serve_raw(LEARNED) as proxy:
            monkeypatch.setenv("http_proxy", proxy.endpoint)
            monkeypatch.delenv("no_proxy", raising=False)
            store = S3Store(StoreConfig(models="s3://bucket/", s3_endpoint="http://s3.invalid"))
            try:
                for _ in range(2):
                    assert await read(store) == b"first"
            finally:
                await store.close()
            assert asked_by_botocore(proxy) == [True, True]
            assert proxy.requests[0].startswith(b"GET http://s3.invalid/bucket/m.tar.gz ")

    run(ask())


def test_nobody_listening_any_more_is_the_stores_fault(run: Run) -> None:
    async def ask() -> None:
        async with learned(LEARNED) as (store, server):
            await server.stop()
            with pytest.raises(StoreUnavailable) as caught:
                await read(store)
            assert isinstance(caught.value, MmeError)

    run(ask())
