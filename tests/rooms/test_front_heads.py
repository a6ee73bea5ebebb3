"""Heads that were read before are not read again, and nobody can tell by the answers."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from mme.front import held_back
from mme.front.connection import Connection
from mme.front.heads import Heads
from tests.eventually import eventually
from tests.rooms.front_double import NAME, FakeService, connected, serving
from tests.rooms.test_access import MINE, SECRET, guarded

MODELS = ("a", "b")
BODIES = (b"", b"1,2", b"\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"x" * 300)
KINDS = ("plain", "chunked", "extra", "signed", "traced")
numbers = itertools.count()
asked = st.tuples(st.sampled_from(KINDS), st.sampled_from(MODELS), st.sampled_from(BODIES))


def request(kind: str, model: str, body: bytes) -> bytes:
    head = f"POST /invocations HTTP/1.1\r\nHost: h\r\nX-Amzn-SageMaker-Target-Model: {model}\r\n"
    if kind == "extra":
        head += "X-Amzn-SageMaker-Inference-Id: i\r\n"
    if kind == "signed":
        head += f"X-Amz-Date: 20261121T{next(numbers):06}Z\r\nauthorization: {next(numbers)}\r\n"
    if kind == "traced":
        head += f"x-request-id: {next(numbers)}\r\n"
    if kind == "chunked":
        framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + framed + b"0\r\n\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@settings(max_examples=60, deadline=None)
@given(requests=st.lists(asked, min_size=1, max_size=8), cuts=st.lists(st.integers(0, 3_000)))
def test_any_requests_in_any_pieces_are_understood_alike(requests, cuts):
    stream = b"".join(request(*one) for one in requests)
    ends = [len(b"".join(request(*one) for one in requests[:count])) for count in (1, 2, 3)]
    at = sorted({cut % (len(stream) + 1) for cut in cuts} | set(ends[: len(cuts)]))
    pieces = [stream[start:end] for start, end in zip([0, *at], [*at, len(stream)], strict=True)]

    async def send() -> FakeService:
        service = FakeService()
        async with serving(service) as front, connected(front) as wire:
            for piece in pieces:
                wire.send(piece)
                await asyncio.sleep(0)
            for _ in requests:
                assert (await wire.response()).status == 200
        return service

    seen = asyncio.run(send()).seen
    assert [(one.target_model, one.body) for one in seen] == [one[1:] for one in requests]
    assert [one.inference_id for one in seen] == [
        "i" if kind == "extra" else None for kind, *_ in requests
    ]


async def test_what_is_kept_is_bounded():
    service = FakeService()
    async with serving(service) as front, connected(front) as wire:
        (listener,) = front._listeners
        heads: Heads = listener._connections.heads
        for number in range(1500):
            wire.send(request("plain", f"m{number}", b"1"))
            await wire.response()
        assert heads.find(request("plain", "m1499", b"2"), ()) is not None
        assert heads.find(request("plain", "m1499", b"22"), ()) is None
        assert heads.find(request("plain", "m0", b"1"), ()) is None


async def test_a_remembered_head_does_not_pass_the_limit_on_bodies():
    service = FakeService()
    async with serving(service, body_limit_bytes=100) as front, connected(front) as wire:
        for _ in range(2):
            async with connected(front) as other:
                other.send(request("plain", "a", b"x" * 300))
                assert (await other.response()).status == 413
        wire.send(request("plain", "a", b"x"))
        assert (await wire.response()).status == 200


def only_connection(listeners: Iterable[object]) -> Connection:
    [listener] = listeners
    [connection] = listener._connections.connections
    return connection


@pytest.fixture
def hold_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets for how long a head is held back: a busy machine may be late by more than 50 ms."""
    return partial(monkeypatch.setattr, held_back, "_SECONDS")


@pytest.mark.parametrize("kind", ["plain", "signed"])
async def test_heads_and_bodies_sent_one_after_the_other_are_requests_that_came_whole(
    kind: str, hold_for: Callable[[float], None]
):
    hold_for(60)
    service = FakeService()
    async with serving(service) as front, connected(front) as wire:
        for number in range(5):
            data = request(kind, "a", b"%d" % number)
            for piece in (data[:-1], data[-1:]):
                wire.send(piece)
                await asyncio.sleep(0.002)
            assert (await wire.response()).status == 200
        assert not only_connection(front._listeners)._in_pieces
        assert [one.body for one in service.seen] == [b"0", b"1", b"2", b"3", b"4"]
        hold_for(0.05)
        wire.send(data[:-1])
        await eventually(lambda: only_connection(front._listeners)._in_pieces)  # no longer waited
        wire.send(b"x")
        assert (await wire.response()).status == 200
        assert service.seen[-1].body == b"x"


async def test_who_leaves_in_the_middle_of_a_small_body_leaves_nothing(
    hold_for: Callable[[float], None],
):
    hold_for(60)
    async with serving(FakeService()) as front:
        served = front._listeners[0]._connections.connections
        async with connected(front) as wire:
            wire.send(request("plain", "a", b"1,2")[:-1])
            await eventually(lambda: served and only_connection(front._listeners)._held)
            connection = only_connection(front._listeners)
        await eventually(lambda: not served)
        assert not connection._held


async def test_a_request_whose_body_is_awaited_is_answered_though_its_connection_is_to_end(
    hold_for: Callable[[float], None],
):
    hold_for(60)
    async with serving(FakeService()) as front, connected(front) as wire:
        data = request("plain", "a", b"1,2")
        wire.send(data[:-1])
        served = front._listeners[0]._connections.connections
        await eventually(lambda: served and only_connection(front._listeners)._held)
        only_connection(front._listeners).finish()
        wire.send(data[-1:])
        response = await wire.response()
        assert (response.status, response.headers["connection"]) == (200, "close")
        assert await wire.closed() == b""


def signed(body: bytes, secret: str = SECRET) -> bytes:
    url = f"http://x/endpoints/{NAME}/invocations"
    headers = {"X-Amzn-SageMaker-Target-Model": MINE, "X-Request-Id": str(next(numbers))}
    asks = AWSRequest(method="POST", url=url, data=body, headers=headers)
    SigV4Auth(Credentials("AKIDACME", secret), "sagemaker", "eu-west-1").add_auth(asks)
    fields = {"Host": "x", **asks.headers, "Content-Length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in fields.items()]
    head = "\r\n".join([f"POST /endpoints/{NAME}/invocations HTTP/1.1", *lines, "", ""])
    return head.encode() + body


async def test_who_leaves_a_signature_out_is_not_let_in_by_anothers(tmp_path: Path):
    async with guarded(tmp_path) as front:
        theirs = signed(b"1,2")
        without = re.sub(rb"(X-Amz-Date|Authorization|X-Request-Id): [^\r]*", rb"\1: ", theirs)
        for data, status in ((theirs, 200), (without, 403)):
            async with connected(front) as wire:
                wire.send(data)
                assert (await wire.response()).status == status


async def test_every_signature_is_checked_on_a_connection_that_signed_before(tmp_path: Path):
    service = FakeService()
    async with guarded(tmp_path, service) as front, connected(front) as wire:

        async def status(data: bytes) -> int:
            wire.send(data)
            return (await wire.response()).status

        assert [await status(signed(body)) for body in (b"1,2", b"3,4", b"5,6")] == [200] * 3
        assert await status(signed(b"7,8", secret="another")) == 403
        assert await status(signed(b"7,8").replace(b"7,8", b"8,7")) == 403
        assert await status(signed(b"7,8").replace(MINE.encode(), b"acme/n.tar.gz")) == 403
        assert await status(signed(b"9,9")) == 200
        assert not only_connection(front._listeners)._in_pieces
    assert [one.body for one in service.seen] == [b"1,2", b"3,4", b"5,6", b"9,9"]
