"""Heads that were read before are not read again, and nobody can tell by the answers."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from mme.front.heads import Heads
from tests.rooms.front_double import FakeService, connected, serving

MODELS = ("a", "b")
BODIES = (b"", b"1,2", b"\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"x" * 300)
KINDS = ("plain", "chunked", "extra", "signed")
asked = st.tuples(st.sampled_from(KINDS), st.sampled_from(MODELS), st.sampled_from(BODIES))


def request(kind: str, model: str, body: bytes) -> bytes:
    head = f"POST /invocations HTTP/1.1\r\nHost: h\r\nX-Amzn-SageMaker-Target-Model: {model}\r\n"
    if kind == "extra":
        head += "X-Amzn-SageMaker-Inference-Id: i\r\n"
    if kind == "signed":
        head += "X-Amz-Date: 20261121T000000Z\r\n"
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


async def test_what_is_kept_is_bounded_and_signed_requests_are_not_kept():
    service = FakeService()
    async with serving(service) as front, connected(front) as wire:
        (listener,) = front._listeners
        heads: Heads = listener._connections.heads
        for number in range(1500):
            wire.send(request("plain", f"m{number}", b"1"))
            await wire.response()
        assert heads.find(request("plain", "m1499", b"2")) is not None
        assert heads.find(request("plain", "m1499", b"22")) is None
        assert heads.find(request("plain", "m0", b"1")) is None
        wire.send(request("signed", "s", b"1"))
        await wire.response()
        assert heads.find(request("signed", "s", b"1")) is None


async def test_a_remembered_head_does_not_pass_the_limit_on_bodies():
    service = FakeService()
    async with serving(service, body_limit_bytes=100) as front, connected(front) as wire:
        for _ in range(2):
            async with connected(front) as other:
                other.send(request("plain", "a", b"x" * 300))
                assert (await other.response()).status == 413
        wire.send(request("plain", "a", b"x"))
        assert (await wire.response()).status == 200
