"""Another container over real sockets: what it answers, and what its failures cost."""

from __future__ import annotations

import asyncio

import pytest

from mme.domain import ModelKey
from mme.errors import InvocationTimeout, SiblingFailed, SiblingSilent
from tests.eventually import eventually
from tests.raw_http import raw, reply, serve_raw, silent_after
from tests.siblings import asked, client_of, sibling


async def test_an_answer_comes_back_verbatim_with_its_type_and_attributes():
    answer = reply(
        "200 OK", b"\x1f\x8bnot inflated", Content_Type="text/csv; charset=utf-8",
        Content_Encoding="gzip", X_Amzn_SageMaker_Custom_Attributes="a=1",
    )  # fmt: skip
    async with sibling(answer) as (client, _):
        given = await client.invoke("/invocations", asked())
    assert given.body == b"\x1f\x8bnot inflated"
    assert given.content_type == "text/csv; charset=utf-8"
    assert given.custom_attributes == "a=1"


async def test_exactly_the_contracts_headers_are_sent():
    async with sibling(reply("200 OK", b"x")) as (client, server):
        await client.invoke(
            "/models/abc/invoke",
            asked(
                content_type="text/csv", accept="text/csv", custom_attributes="k=v",
                session_id="NEW_SESSION", inference_id="i-1", target_model=ModelKey("hidden"),
            ),
            "tenant/m.tar.gz",
        )  # fmt: skip
        await client.invoke("/invocations", asked())
    first, second = (head.decode().split("\r\n") for head in server.requests)
    host = server.endpoint.removeprefix("http://")
    assert first[0] == "POST /models/abc/invoke HTTP/1.1"
    assert sorted(filter(None, first[1:])) == [
        "Accept: text/csv",
        "Content-Length: 3",
        "Content-Type: text/csv",
        f"Host: {host}",
        "X-Amzn-SageMaker-Custom-Attributes: k=v",
        "X-Amzn-SageMaker-Inference-Id: i-1",
        "X-Amzn-SageMaker-Session-Id: NEW_SESSION",
        "X-Amzn-SageMaker-Target-Model: tenant/m.tar.gz",
    ]
    assert sorted(filter(None, second[1:])) == ["Content-Length: 3", f"Host: {host}"]


async def test_an_answer_without_content_is_a_good_one():
    async with sibling(raw(b"HTTP/1.1 204 No Content\r\n\r\n")) as (client, _):
        given = await client.invoke("/invocations", asked())
    assert (given.body, given.content_type) == (b"", "application/octet-stream")


@pytest.mark.parametrize("status", [300, 302, 404, 503])
async def test_what_is_no_success_keeps_its_status_and_text(status):
    answer = reply(f"{status} Oh", b"no such column", Location="http://127.0.0.1:1/")
    async with sibling(answer) as (client, _):
        for _ in range(7):  # an answer with an error is an answer: the breaker stays closed
            with pytest.raises(SiblingFailed, match=r"^no such column$") as caught:
                await client.invoke("/invocations", asked())
            assert caught.value.original_status == status


async def test_an_errors_text_is_cut():
    async with sibling(reply("500 Oh", b"x" * 100_000)) as (client, _):
        with pytest.raises(SiblingFailed) as caught:
            await client.invoke("/invocations", asked())
    assert str(caught.value) == "x" * 2048


async def test_a_connection_is_used_again():
    ports = set()

    async def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.add(writer.get_extra_info("peername")[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with sibling(note) as (client, _):
        for _ in range(3):
            await client.invoke("/invocations", asked(b""))
    assert len(ports) == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN = {
    "closed at once": (raw(b""), "closed the connection before it had answered"),
    "closed in the head": (raw(b"HTTP/1.1 200 OK\r\nContent-"), "closed the connection before"),
    "closed in the body": (reply("200 OK", b"12", announce=5), "broke off"),
    "closed in a chunk": (raw(CHUNKED + b"5\r\n12"), "broke off"),
    "closed between chunks": (raw(CHUNKED + b"2\r\n12\r\n"), "broke off"),
    "no status line": (raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "not HTTP"),
    "a bad status": (raw(b"HTTP/1.1 two OK\r\n\r\n"), "not HTTP"),
    "two lengths": (
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"), "not HTTP",
    ),
    "no length": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n"), "not HTTP"),
    "no chunk": (raw(CHUNKED + b"zz\r\nab\r\n0\r\n\r\n"), "(not HTTP|broke off)"),
    "an endless line": (raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "not HTTP"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_answer_names_the_container_and_no_address(case):
    answer, words = BROKEN[case]
    async with sibling(answer, reply("200 OK", b"ok")) as (client, server):
        with pytest.raises(
            SiblingSilent, match=f"^Container pre does not answer: .*{words}"
        ) as caught:
            await client.invoke("/invocations", asked(b""))
        assert caught.value.original_status == 0
        assert "127.0.0.1" not in str(caught.value)
        assert len(server.requests) == 1  # nothing is sent twice
        assert (await client.invoke("/invocations", asked(b""))).body == b"ok"
        assert client.describe() == {"breaker": "closed", "in_flight": 0, "waiting": 0}


async def test_a_refused_connection_is_told_in_words():
    async with serve_raw(raw(b"")) as server:
        gone = server.endpoint
    async with client_of(gone) as client:
        with pytest.raises(SiblingSilent, match=r"\(connection refused\)\.$"):
            await client.invoke("/invocations", asked())
    async with client_of("http://nowhere.invalid") as client:
        with pytest.raises(SiblingSilent, match="name of its host is not known"):
            await client.invoke("/invocations", asked())


@pytest.mark.parametrize(
    "sent",
    [b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123"],
)
async def test_a_hanging_container_costs_no_more_than_the_deadline(sent):
    async with sibling(silent_after(sent)) as (client, _):
        text = "waiting for a response from container pre. Review the latency metrics"
        with pytest.raises(InvocationTimeout, match=text):
            await client.invoke("/invocations", asked(seconds=0.1))
        assert client.describe()["in_flight"] == 0


async def test_headers_that_trickle_for_ever_end_with_the_deadline():
    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(1000):
            writer.write(f"X-{number}: x\r\n".encode())
            await writer.drain()
            await asyncio.sleep(0.01)

    async with sibling(trickle) as (client, _):
        with pytest.raises(InvocationTimeout):
            await client.invoke("/invocations", asked(seconds=0.2))


@pytest.mark.parametrize("announced", [True, False])
async def test_an_answer_over_the_limit_is_not_collected(announced):
    too_much = b"x" * 5_000_000
    answer = reply("200 OK", too_much) if announced else raw(CHUNKED + b"4c4b40\r\n" + too_much)
    async with sibling(answer, reply_limit_bytes=1_000_000) as (client, _):
        with pytest.raises(SiblingFailed, match="not load the entire response body") as caught:
            await client.invoke("/invocations", asked())
    assert caught.value.original_status == 413


async def test_what_no_header_can_carry_on_is_refused():
    async with sibling(reply("200 OK", b"x", Content_Type="text/\xfc")) as (client, _):
        with pytest.raises(SiblingFailed, match="content type"):
            await client.invoke("/invocations", asked())


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next():
    mine = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine"
    stale = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"
    smuggled = asyncio.Event()

    async def smuggle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(mine)
        await writer.drain()
        await smuggled.wait()
        writer.write(stale)

    async with sibling(smuggle, raw(mine)) as (client, server):
        assert (await client.invoke("/invocations", asked(b""))).body == b"mine"
        connector = client._http.session.connector
        (pooled,) = connector._conns.values()
        smuggled.set()
        await eventually(lambda: pooled[0][0].should_close)
        assert (await client.invoke("/invocations", asked(b""))).body == b"mine"
        assert len(server.requests) == 2
