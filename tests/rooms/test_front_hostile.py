"""Garbage gets a 4xx or a closed connection, and the next client its answer."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mme.domain import Reply
from tests.rooms.front_double import FakeService, connected, serving

HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /invocations HTTP/9.9\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"bad header\r\n\r\n",
        HEAD + b"X: a\0b\r\n\r\n",
        HEAD + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
        HEAD + b"X: y\r\n" * 500 + b"\r\n",
        b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_one_refusal_in_our_shape_and_no_more(data):
    service = FakeService()
    async with serving(service, body_seconds=2.0) as front:
        async with connected(front) as wire:
            wire.send(data)
            response = await wire.response()
            assert response.status == 400
            assert response.headers["x-amzn-errortype"] == "ValidationError"
            assert response.headers["x-amzn-requestid"]
            assert "HTTP/1.1" in json.loads(response.body)["Message"]
            assert await wire.closed() == b""
        assert service.seen == []
        async with connected(front) as wire:
            wire.post(b"x")
            assert (await wire.response()).status == 200


noise = st.binary(max_size=200)
tokens = st.sampled_from(
    [
        *(
            b"POST ",
            b"GET ",
            b"/invocations",
            b" HTTP/1.1",
            b"\r\n",
            b"\n",
            b"\r\n\r\n",
            b"Host: x",
        ),
        *(b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X-Amzn-SageMaker-Target-Model: "),
        *(b"0\r\n\r\n", b"Upgrade: websocket", b"Connection: upgrade", b":", b" ", b"\0", b"\xff"),
    ]
)
garbage = st.one_of(
    noise,
    st.lists(tokens | noise, max_size=12).map(b"".join),
    st.tuples(st.just(HEAD), noise).map(b"".join),
    st.tuples(st.just(HEAD + b"X-Amzn-SageMaker-Target-Model: "), noise).map(
        lambda pair: pair[0] + pair[1] + b"\r\nContent-Length: 0\r\n\r\n"
    ),
)


async def served(front, data: bytes) -> None:
    async with connected(front) as wire:
        wire.send(data)
        answer = await wire.closed()  # which comes within the time that a client has for a request
    assert b"HTTP/1.1 5" not in answer
    assert answer == b"" or answer.startswith(b"HTTP/")


@settings(max_examples=25, deadline=None)
@given(st.lists(garbage, min_size=1, max_size=20))
def test_garbage_never_brings_a_5xx_and_the_server_serves_on(pieces):
    async def attack() -> None:
        async with asyncio.timeout(10), serving(FakeService(), body_seconds=0.3) as front:
            async with asyncio.TaskGroup() as group:
                for data in pieces:
                    group.create_task(served(front, data))
            async with connected(front) as wire:
                wire.post(b"still here")
                assert (await wire.response()).body == b"still here"

    asyncio.run(attack())


async def test_a_request_that_would_switch_protocols_is_answered_as_a_plain_one():
    async with serving(FakeService()) as front, connected(front) as wire:
        wire.post(b"abc", connection="Upgrade", upgrade="websocket")
        assert (await wire.response()).body == b"abc"
        wire.post(b"def")
        assert (await wire.response()).body == b"def"


async def test_a_body_that_was_not_read_is_never_taken_for_a_request():
    service = FakeService()
    smuggled = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    async with serving(service, body_limit_bytes=10) as front, connected(front) as wire:
        wire.post(smuggled)
        assert (await wire.response()).status == 413
        assert await wire.closed() == b""
    assert service.seen == []


async def test_an_early_refusal_does_not_wait_for_a_body_and_ends_the_connection():
    async with serving(FakeService()) as front, connected(front) as wire:
        wire.send(b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        response = await wire.response()
        assert (response.status, response.headers["connection"]) == (404, "close")


async def test_a_compressed_body_reaches_the_model_as_it_came():
    service = FakeService()
    async with serving(service) as front, connected(front) as wire:
        wire.post(b"not really gzip", content_encoding="gzip")
        assert (await wire.response()).status == 200
    assert service.seen[0].body == b"not really gzip"


async def test_an_answer_can_not_be_split_by_its_model():
    reply = Reply(body=b"", content_type="a/b\r\nX-Evil: 1")
    async with serving(FakeService(lambda _: reply)) as front, connected(front) as wire:
        wire.post(b"x")
        response = await wire.response()
    assert response.status == 424
    assert "x-evil" not in response.headers


async def test_a_body_that_breaks_in_the_middle_is_refused_at_once():
    service = FakeService()
    async with serving(service, body_seconds=15.0) as front, connected(front) as wire:
        wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        async with connected(front) as other:
            other.get("/livez")
            await other.response()  # so the request waits for the rest of its body
        wire.send(b"zz\r\n")
        assert (await wire.response()).status == 400
        assert await wire.closed() == b""
    assert service.seen == []


async def test_who_asks_without_waiting_for_answers_holds_up_nobody_else():
    service = FakeService()
    async with serving(service) as front, connected(front) as rude, connected(front) as other:
        other.get("/livez")
        await other.response()
        rude.send((HEAD + b"Content-Length: 0\r\n\r\n") * 300)
        other.get("/livez")
        await other.response()
        assert len(service.seen) < 300


async def test_more_requests_than_are_taken_ahead_are_all_answered_in_order():
    service = FakeService(gate=asyncio.Event())
    async with serving(service) as front, connected(front) as wire:
        bodies = [b"%d" % number * 2000 for number in range(300)]
        for body in bodies:
            wire.post(body)
        await service.entered.wait()
        service.gate.set()
        assert [(await wire.response()).body for _ in bodies] == bodies
