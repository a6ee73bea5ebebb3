"""Bodies that go from one container to the next while they arrive, over real sockets."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from mme.containers.breaker import Breaker
from mme.domain import BodyStream
from mme.errors import InvocationTimeout, SiblingFailed, SiblingSilent
from tests.eventually import eventually
from tests.raw_http import RawServer, raw, reply, serve_raw
from tests.siblings import asked, client_of, read_body, sibling

LARGE = os.urandom(3_000_000)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Receiver:
    """A container that reads its request and says how much that was."""

    def __init__(self):
        self.server: RawServer | None = None
        self.body = b""
        self.begun, self.gone = asyncio.Event(), asyncio.Event()

    async def answer(self, reader, writer):
        self.begun.set()
        try:
            self.body = await read_body(self.server, reader)
        except asyncio.IncompleteReadError:
            self.gone.set()
            raise
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@asynccontextmanager
async def receiving():
    receiver = Receiver()
    async with serve_raw(receiver.answer) as server:
        receiver.server = server
        async with client_of(server.endpoint, name="post") as client:
            yield client, receiver


@asynccontextmanager
async def opened(client, seconds=5.0):
    """A container's large answer, and the invocation for the next one."""
    invocation = asked(seconds=seconds)
    async with client.open("/invocations", invocation) as handover:
        assert isinstance(handover.body, BodyStream)
        yield asked(handover.body, seconds=seconds, content_type=handover.content_type)


async def test_a_small_answer_is_handed_on_whole_and_its_place_is_free():
    async with AsyncExitStack() as stack:
        client, _ = await stack.enter_async_context(
            sibling(reply("200 OK", b"small", Content_Type="text/csv"))
        )
        client.breaker = Breaker(failures=1, pause_seconds=0)
        client.breaker.settle(client.breaker.admit(0), "failed", 0)
        handover = await stack.enter_async_context(client.open("/invocations", asked()))
        assert (handover.body, handover.content_type) == (b"small", "text/csv")
        assert client.describe() == {"breaker": "closed", "in_flight": 0, "waiting": 0}


async def test_a_large_answer_is_there_before_its_end():
    rest = asyncio.Event()

    async def in_two(_reader, writer):
        writer.write(HEAD + LARGE[:70_000])
        await writer.drain()
        await rest.wait()
        writer.write(LARGE[70_000:])

    async with sibling(in_two) as (client, _), client.open("/invocations", asked()) as handover:
        assert handover.body.length_bytes == len(LARGE)
        begun = await anext(handover.body.chunks)
        assert client.describe()["in_flight"] == 1
        rest.set()
        assert begun + await handover.body.read() == LARGE
        assert client.describe()["in_flight"] == 0


@pytest.mark.parametrize("known", [True, False])
async def test_a_large_answer_goes_on_verbatim(known):
    answer = reply("200 OK", LARGE, Content_Type="x/y")
    if not known:
        answer = raw(CHUNKED + b"2dc6c0\r\n" + LARGE + b"\r\n0\r\n\r\n")
    async with sibling(answer) as (client, _), receiving() as (taker, receiver):
        async with opened(client) as invocation:
            assert (invocation.body.length_bytes is not None) == known
            assert (await taker.invoke("/invocations", invocation)).body == b"ok"
        assert receiver.body == LARGE
        head = receiver.server.requests[0]
        assert (b"Content-Length: 3000000" in head) == known
        assert (b"Transfer-Encoding: chunked" in head) != known


async def test_a_large_request_is_sent_verbatim():
    async with receiving() as (client, receiver):
        assert (await client.invoke("/invocations", asked(LARGE))).body == b"ok"
        assert receiver.body == LARGE


async def test_an_answer_that_breaks_off_is_the_fault_of_its_container():
    taken = asyncio.Event()

    async def break_when_taken(_reader, writer):
        writer.write(HEAD + LARGE[:500_000])
        await taken.wait()
        raise ConnectionError

    async with sibling(break_when_taken) as (client, _), receiving() as (taker, receiver):
        receiver.begun = taken
        with pytest.raises(SiblingSilent, match=r"Container pre .* broke off"):
            async with opened(client) as invocation:
                await taker.invoke("/invocations", invocation)
        await receiver.gone.wait()  # the next one is not left with half a request
        assert taker.describe() == {"breaker": "closed", "in_flight": 0, "waiting": 0}


async def test_an_answer_that_breaks_off_ends_a_next_container_that_answered_already():
    broken = asyncio.Event()

    async def break_later(_reader, writer):
        writer.write(HEAD + LARGE[:500_000])
        await writer.drain()
        await broken.wait()
        raise ConnectionError

    async def answer_early(reader, writer):
        writer.write(HEAD + LARGE[:100_000])
        broken.set()
        await reader.read()

    async with (
        sibling(break_later) as (client, _),
        sibling(answer_early, name="post") as (taker, _),
    ):
        with pytest.raises(SiblingSilent, match=r"Container pre .* broke off"):
            async with opened(client, seconds=60) as invocation:
                await taker.invoke("/invocations", invocation)


async def test_a_stalled_answer_is_the_timeout_of_its_container():
    async def stall(reader, writer):
        writer.write(HEAD + LARGE[:500_000])
        await reader.read()

    for _ in range(5):
        async with sibling(stall) as (client, _), receiving() as (taker, _):
            with pytest.raises(InvocationTimeout, match="from container pre"):
                async with opened(client, seconds=0.2) as invocation:
                    await taker.invoke("/invocations", invocation)


async def test_an_early_error_of_the_next_container_counts():
    too_much = b"HTTP/1.1 413 Too much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nless"
    for _ in range(5):
        async with (
            sibling(reply("200 OK", LARGE)) as (client, _),
            sibling(raw(too_much), name="post") as (taker, _),
        ):
            with pytest.raises(SiblingFailed, match=r"^less$") as caught:
                async with opened(client) as invocation:
                    await taker.invoke("/invocations", invocation)
            assert caught.value.original_status == 413
            with pytest.raises(SiblingFailed, match=r"^less$"):
                await taker.invoke("/invocations", asked(LARGE))


async def test_a_next_container_that_closes_while_it_is_sent_to_is_named():
    async with (
        sibling(reply("200 OK", LARGE)) as (client, _),
        sibling(raw(b""), name="post") as (
            taker,
            _,
        ),
    ):
        with pytest.raises(SiblingSilent, match="Container post "):
            async with opened(client) as invocation:
                await taker.invoke("/invocations", invocation)
        assert client.describe()["in_flight"] == 0


async def test_an_answer_that_is_not_wanted_any_more_is_dropped():
    dropped = asyncio.Event()

    async def endless(_reader, writer):
        writer.write(CHUNKED)
        try:
            while True:
                writer.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")
                await writer.drain()
        except ConnectionError:
            dropped.set()
            raise

    async with sibling(endless) as (client, _):
        async with client.open("/invocations", asked()) as handover:
            await anext(handover.body.chunks)
        await dropped.wait()
        assert client.describe()["in_flight"] == 0


async def test_a_cancelled_request_drops_its_connection_and_its_place():
    dropped = asyncio.Event()

    async def wait(reader, _writer):
        await reader.read()
        dropped.set()

    async with sibling(wait) as (client, server):
        task = asyncio.create_task(client.invoke("/invocations", asked()))
        await eventually(lambda: server.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await dropped.wait()
        assert client.describe() == {"breaker": "closed", "in_flight": 0, "waiting": 0}


async def test_a_stream_over_the_limit_ends_there():
    answer = raw(CHUNKED + b"2dc6c0\r\n" + LARGE + b"\r\n0\r\n\r\n")
    async with sibling(answer, reply_limit_bytes=1_000_000) as (client, _):
        with pytest.raises(
            SiblingFailed, match=r"the limit \(answer_limit\) is 1000000 bytes"
        ) as caught:
            async with opened(client) as invocation:
                await invocation.body.read()
    assert caught.value.original_status == 413
