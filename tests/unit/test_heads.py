"""Heads found by their bytes say what the parser says, and what it refuses is never found."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from mme.front.heads import Heads, pack_head
from mme.front.held_back import HeldBack, is_without_body
from mme.front.shapes import Shape, shape_of
from tests.parsed_heads import parsed, said

BODY = b"1,2,3"
SIGNED = (
    b"X-Amz-Date: 20261123T013653Z",
    b"Authorization: AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0f",
    b"amz-sdk-invocation-id: 9618978d-ba86-434f-9a76-b5af6704d02c",
)
PLAIN = (b"Host: h", b"X-Amzn-SageMaker-Target-Model: acme", b"Content-Type: text/csv")


def request(*lines: bytes, path: bytes = b"/invocations", body: bytes = BODY) -> bytes:
    lines = (b"POST %b HTTP/1.1" % path, *lines, b"Content-Length: %d" % len(body), b"", body)
    return b"\r\n".join(lines)


def learnt(*requests: bytes) -> tuple[Heads, Shape]:
    heads, shape = Heads(), None
    for data in requests:
        shape = heads.learn(data, parsed(data))
        assert shape is not None
    return heads, shape or ()


line = some.one_of(
    some.sampled_from(SIGNED),
    some.binary(max_size=30).map(lambda value: b"X-Amz-Date: " + value),
    some.sampled_from(
        [
            b"X-Amz-Date: 20261123T013654Z", b"X-Amz-Date:20261123T013654Z",
            b"X-Amz-Date:  two spaces", b"X-Amz-Date: trailing ", b"X-Amz-Date: tab\t",
            b"X-Amz-Date: a\nTransfer-Encoding: chunked", b"X-Amz-Date: a\rb", b"X-Amz-Date: \x00",
            b"X-Amz-Date: \xc3\xa4", b"X-Amz-Date: ", b"X-Amz-Date: \x7f", b"x-amz-date: again",
            b"Authorization: other", b"amz-sdk-invocation-id: other", b"X-Request-Id: 7",
            b"Transfer-Encoding: chunked", b"Connection: close", b" folded", b"Content-Length: 4",
        ]
    ),
)  # fmt: skip


@given(
    lines=some.lists(line, max_size=6),
    place=some.integers(0, 3),
    path=some.sampled_from([b"/invocations", b"/ping"]),
)
@example(lines=[SIGNED[0], SIGNED[1], b"amz-sdk-invocation-id: 1"], place=3, path=b"/invocations")
def test_what_is_found_is_what_the_parser_reads(lines, place, path):
    heads, shape = learnt(request(*PLAIN, *SIGNED))
    assert len(shape) == len(SIGNED)
    data = request(*PLAIN[:place], *lines, *PLAIN[place:], path=path)
    found = heads.find(data, shape)
    if found is None:
        return
    [(head, _)] = parsed(data)
    assert said(found[0]) == said(head)
    assert found[1] == BODY


@pytest.mark.parametrize("written", [str.title, str.lower, str.upper])
def test_the_next_request_of_who_signs_is_found_and_says_its_own(written):
    names = ("x-amz-date", "authorization", "amz-sdk-invocation-id", "x-amzn-trace-id")

    def signed(number: int) -> bytes:
        lines = [f"{written(name)}: {name} {number}".encode() for name in names]
        return request(*PLAIN, *lines)

    heads, shape = learnt(signed(1))
    found = heads.find(signed(2), shape)
    assert found is not None
    assert {name: found[0].headers[name] for name in names} == {name: f"{name} 2" for name in names}
    assert heads.find(signed(2).replace(b"acme", b"evil"), shape) is None
    assert heads.find(signed(2), ()) is None
    assert heads.find(request(*PLAIN), shape) is None


CUTS = (
    SIGNED,
    SIGNED[:2],
    SIGNED[2:],
    (),
    (b"Authorization: Bearer acme", b"X-Amz-Date: 20261123T013653Z"),
)


def blank(data: bytes) -> bytes:
    """A head as it is kept: without what differs."""
    return re.sub(rb"(?i)(\r\n(?:x-amz-date|authorization|amz-sdk-\S+): )[^\r]*", rb"\1", data)


@pytest.mark.parametrize("theirs", CUTS)
@pytest.mark.parametrize("mine", CUTS)
def test_who_leaves_out_what_differs_is_not_taken_for_another(theirs, mine):
    heads, _ = learnt(request(*PLAIN, *theirs))
    shape = shape_of(head := request(*PLAIN, *mine).removesuffix(BODY), parsed(head)[0][0].headers)
    data = blank(request(*PLAIN, *theirs))
    found = heads.find(data, shape or ())
    assert found is None or said(found[0]) == said(parsed(data)[0][0])


def test_another_process_is_told_only_what_differs_and_reads_the_same():
    heads, shape = learnt(request(*PLAIN, *SIGNED))
    theirs = Heads()
    packings = set()
    for number in range(3):
        lines = [*PLAIN, *SIGNED[:2], b"amz-sdk-invocation-id: %d" % number]
        found = heads.find(request(*lines), shape)
        assert found is not None
        packed, values = pack_head(found[0])
        read = theirs.unpack(packed, values)
        assert said(read) == said(found[0])
        assert read.headers["Amz-Sdk-Invocation-Id"] == str(number)
        packings.add(packed)
        assert read.fields == (None if number == 0 else {"endpoint": "e"})
        read.understood({"endpoint": "e"})
    assert len(packings) == 1


def test_who_does_not_sign_keeps_a_token_in_its_head():
    bearer = request(*PLAIN, b"Authorization: Bearer one")
    heads, shape = learnt(bearer)
    assert shape == ()
    assert heads.find(bearer, shape) is not None
    assert heads.find(bearer.replace(b"one", b"two"), shape) is None


@pytest.mark.parametrize(
    "line", [b"X-Amz-Date:unspaced", b"X-Amz-Date: tail ", b"Expect: 100-continue"]
)
def test_what_can_not_be_cut_or_does_not_recur_is_not_kept(line):
    data = request(*PLAIN, *SIGNED[1:], line)
    heads, shape = learnt(data)
    assert shape == ()
    assert heads.find(data, shape) is None


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        (request(*PLAIN)[:-5], True),
        (request(*PLAIN)[:-1], True),
        (request(*PLAIN).replace(b"Content-Length", b"content-length")[:-1], True),
        (request(*PLAIN), False),
        (request(*PLAIN) + b"POST", False),
        (request(*PLAIN)[:-6], False),  # the head is not whole
        (request(*PLAIN, b"Expect: 100-continue")[:-5], False),
        (request(*PLAIN, b"expect: 100-continue")[:-5], False),
        (request(*PLAIN, body=b"x" * 65_000)[:-1], True),
        (request(*PLAIN, body=b"x" * 65_536)[:-1], False),
        (request(*PLAIN, b"Content-Length: 9999999999")[:-5], False),
        (request(*PLAIN, b"Content-Length: 1_0")[:-5], False),
        (request(*PLAIN, b"Content-Length: -1")[:-5], False),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", False),
        (b"", False),
    ],
)
def test_only_a_head_with_a_part_of_its_small_body_is_held_back(sent, held):
    assert is_without_body(sent) is held


async def test_what_is_held_back_is_given_up_after_a_while_and_taken_only_once():
    given_up = asyncio.Queue[bytes]()
    held = HeldBack(asyncio.get_running_loop(), given_up.put_nowait)
    part = request(*PLAIN)[:-1]
    assert held.hold(part)
    assert held
    assert held.take() == part
    assert (held.take(), bool(held)) == (b"", False)
    assert held.hold(part)
    assert await given_up.get() == part
    assert (held.take(), bool(held)) == (b"", False)
    assert given_up.empty()


async def test_who_sends_a_byte_now_and_then_is_not_waited_for_any_longer():
    given_up = asyncio.Queue[bytes]()
    held = HeldBack(asyncio.get_running_loop(), given_up.put_nowait)
    data = request(*PLAIN, body=b"x" * 1000)[:-900]
    assert held.hold(data)
    for _ in range(100):
        await asyncio.sleep(0.01)
        if not given_up.empty():
            break
        data = held.joined(b"x")
        assert held.hold(data)
    assert given_up.get_nowait() == data
    assert not held
