"""Several front processes before one service: what a client sees is what it sees without them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest

from mme.config import ServerConfig
from mme.domain import Reply
from mme.errors import ConfigError
from mme.front import remote_process
from mme.front.heads import Heads
from mme.front.remote import Desk
from mme.front.remote_channel import Channel
from mme.front.remote_process import FrontStartError
from mme.front.remote_protocol import (
    WINDOW,
    Answered,
    Ask,
    Beat,
    End,
    Gone,
    Message,
    More,
    Taken,
    Unreadable,
)
from mme.front.server import Front
from mme.front.shared_address import SharedAddress
from mme.front.wire import Answer
from mme.metrics import Metrics
from tests.eventually import eventually
from tests.rooms.front_double import NAME, FakeService, connected, echo, serving

pytestmark = pytest.mark.timeout(60)
CHUNKED = b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def fronts(service=None, **settings):
    return serving(service or FakeService(), fronts=2, **settings)


def pids(front):
    return [told["pid"] for told in front._fronts.describe()]


def counts(front):
    return [told["connections"] for told in front._fronts.describe()]


async def spread(front, stack):
    """Connections to either front."""
    wires, expected = [], sum(counts(front))
    while not wires or not all(counts(front)):
        wires += [await stack.enter_async_context(connected(front)) for _ in range(4)]
        expected += 4
        await eventually(partial(lambda total: sum(counts(front)) == total, expected))
    return wires


async def outcome(wire):
    """The status; None: it was cut off."""
    try:
        return (await wire.response()).status
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def test_a_connection_is_kept_and_what_is_asked_ahead_is_answered_in_order():
    async with fronts() as front, connected(front) as wire:
        for number in range(5):
            wire.post(b"%d" % number)
        wire.post(b"x" * 300_000)
        wire.send(CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n")
        wire.get("/nowhere")
        bodies = [(await wire.response()).body for _ in range(7)]
        assert bodies == [b"0", b"1", b"2", b"3", b"4", b"x" * 300_000, b"abcd"]
        assert (await wire.response()).status == 404
        wire.send(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.0\r\n\r\n")
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405")
        assert (await wire.closed()).startswith(b"HTTP/1.0 200")


async def test_what_the_engine_refuses_is_refused_at_the_front_before_it_is_read():
    async with (
        fronts(body_limit_bytes=1000, body_seconds=1.5) as front,
        connected(front) as announced, connected(front) as counted, connected(front) as slow,
        connected(front) as inviting, connected(front) as garbage, connected(front) as broken,
        connected(front) as silent,
    ):  # fmt: skip
        length = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
        announced.send(length % 1001 + b"\r\n")
        counted.send(CHUNKED + b"%x\r\n" % 1001 + bytes(1001) + b"\r\n")
        slow.send(length % 4 + b"\r\nab")
        inviting.send(length % 4 + b"Expect: 100-continue\r\n\r\n")
        garbage.send(b"\x16\x03\x01 is no HTTP\r\n\r\n")
        broken.send(CHUNKED + b"2\r\nab\r\nzz\r\n")
        assert (await inviting.reader.readuntil(b"\r\n\r\n")) == b"HTTP/1.1 100 Continue\r\n\r\n"
        inviting.send(b"abcd")
        assert (await inviting.response()).body == b"abcd"
        refused = [(await wire.response()).status for wire in (announced, counted, slow)]
        assert refused == [413, 413, 408]
        for wire in (garbage, broken):
            assert (await wire.response()).status == 400
        for wire in (announced, counted, slow, garbage, broken, silent):
            assert await wire.closed() == b""


async def test_a_client_that_leaves_cancels_its_request():
    service = FakeService(gate=asyncio.Event())
    async with fronts(service) as front:
        async with connected(front) as wire:
            wire.post(b"x")
            await service.entered.wait()
        await service.cancelled.wait()
        async with connected(front) as wire:
            wire.get("/livez")
            assert (await wire.response()).status == 200


async def test_a_large_body_and_a_large_answer_pass_whole_and_an_unread_one_is_given_up():
    big = os.urandom(8_000_000)
    unread = Reply(body=bytes(30_000_000), content_type="a/b")
    service = FakeService(lambda asked: unread if asked.body == b"x" else echo(asked))
    async with fronts(service, body_limit_bytes=len(big), body_seconds=1.5) as front:
        async with connected(front) as wire:
            wire.post(big)
            assert (await wire.response()).body == big
        async with connected(front) as wire:
            wire.reader._transport.pause_reading()
            wire.post(b"x")
            await eventually(lambda: sum(counts(front)) == 1)
            await eventually(lambda: sum(counts(front)) == 0)


async def test_a_front_that_is_killed_loses_its_own_connections_alone_and_comes_back():
    service = FakeService(gate=asyncio.Event())
    async with fronts(service) as front, AsyncExitStack() as stack:
        wires = await spread(front, stack)
        for wire in wires:
            wire.post(b"x")
        await eventually(lambda: len(service.seen) == len(wires))
        killed = pids(front)[0]
        lost = counts(front)[0]
        os.kill(killed, signal.SIGKILL)
        await service.cancelled.wait()
        assert front._readiness() == []
        service.gate.set()
        answers = [await outcome(wire) for wire in wires]
        assert answers.count(None) == lost
        assert answers.count(200) == len(wires) - lost
        await eventually(lambda: front._fronts.describe()[0]["restarts"] == 1)
        await eventually(lambda: all(pids(front)) and killed not in pids(front))
        await spread(front, stack)


async def test_there_is_no_readiness_without_any_front_and_then_there_is_again():
    async with fronts() as front:
        for pid in pids(front):
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: front._readiness() == ["no front is up"])
        await eventually(lambda: front._readiness() == [])
        async with connected(front) as wire:
            wire.get("/readyz")
            assert (await wire.response()).status == 200


async def test_a_front_that_gives_no_sign_of_life_is_replaced(monkeypatch):
    monkeypatch.setattr(remote_process, "_LOOK_SECONDS", 1.2)  # one beat at least
    async with fronts() as front:
        silent, _ = pids(front)
        os.kill(silent, signal.SIGSTOP)
        await eventually(lambda: front._fronts.describe()[0]["restarts"] == 1)
        await eventually(lambda: front._readiness() == [] and silent not in pids(front))
        assert front._fronts.describe()[1]["restarts"] == 0


async def test_fronts_that_cannot_start_are_an_error_that_leaves_nothing(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    front = Front(FakeService(), ServerConfig(port=0, fronts=2), Metrics(NAME, "v"))
    with pytest.raises(FrontStartError, match="ended before it was ready"):
        await front.start()
    await front.close()


async def test_a_front_that_cannot_start_again_is_tried_until_it_can(monkeypatch):
    async with fronts() as front:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "/bin/false")
            killed = pids(front)[0]
            os.kill(killed, signal.SIGKILL)
            await eventually(lambda: front._fronts.describe()[0]["restarts"] >= 2)
            assert front._readiness() == []
        await eventually(lambda: all(pids(front)) and front._fronts._processes[0].is_up)


async def test_a_drain_answers_what_is_on_its_way_and_ends_the_fronts():
    service = FakeService(gate=asyncio.Event())
    async with fronts(service, drain_seconds=20) as front:
        async with connected(front) as busy, connected(front) as kept, connected(front) as late:
            busy.post(b"busy")
            late.send(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
            kept.get("/livez")
            assert (await kept.response()).status == 200
            await service.entered.wait()
            draining = asyncio.create_task(front.drain())
            await asyncio.sleep(0)  # its first step, up to where it waits
            kept.post(b"kept")
            late.send(b"cd")
            await eventually(lambda: len(service.seen) == 3)
            service.gate.set()
            for wire, body in ((busy, b"busy"), (kept, b"kept"), (late, b"abcd")):
                response = await wire.response()
                assert (response.status, response.body) == (200, body)
                assert response.headers["connection"] == "close"
            await draining
        assert not front._is_connected()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", front.port)


async def test_what_is_not_answered_in_the_drain_time_is_told_so():
    service = FakeService(gate=asyncio.Event())
    async with fronts(service, drain_seconds=0.05) as front, connected(front) as wire:
        wire.post(b"x")
        await service.entered.wait()
        await front.drain()
        assert (await wire.response()).status == 503


async def test_another_servers_port_is_refused_and_so_is_a_system_that_cannot_share(monkeypatch):
    async with fronts() as front:
        taken = ServerConfig(port=front.port, fronts=2)
        other = Front(FakeService(), taken, Metrics(NAME, "v"))
        with pytest.raises(ConfigError, match=r"host, port: cannot listen on 127\.0\.0\.1:"):
            await other.start()
        await other.close()
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ConfigError, match="SO_REUSEPORT"):
        SharedAddress("127.0.0.1", 0, "host, port")


def test_a_name_with_two_addresses_has_one_port_on_both():
    address = SharedAddress("localhost", 0, "host, port")
    shared = address.sockets()
    assert {each.getsockname()[1] for each in shared} == {address.port}
    for each in shared:
        each.close()
    address.close()


class Talk:
    """A front's end of a socket to a desk, spoken by the test."""

    def __init__(self, answer) -> None:
        self.said: list[Message] = []
        self.desk = Desk(answer, self._refuse, Heads())
        self.channel = Channel(self.said.append, lambda: None)

    async def _refuse(self, reason: str) -> Answer:
        return Answer(status=400, body=reason.encode())

    async def heard(self, *expected: Message) -> None:
        await eventually(lambda: len(self.said) >= len(expected))
        assert self.said == list(expected)
        self.said.clear()


@asynccontextmanager
async def talking(answer):
    talk, loop = Talk(answer), asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    await loop.create_connection(lambda: talk.desk.channel, sock=ours)
    await loop.create_connection(lambda: talk.channel, sock=theirs)
    try:
        yield talk
    finally:
        await talk.desk.close(1)
        talk.channel.abort()
        talk.desk.channel.abort()


async def test_no_more_pieces_of_an_answer_are_under_way_than_were_taken():
    async def pieces():
        for number in range(5):
            yield b"%d" % number

    async def answer(request):
        request.client.send(request, Answer(status=200, pieces=pieces()), keep=False)
        async for piece in pieces():
            await request.client.send_piece(piece)

    head = b"GET\n/\n\n\n1\n1"
    async with talking(answer) as talk:
        talk.channel.send(Ask(7, head, b""))
        begun = Answered(7, 200, {}, b"", keep=False, in_pieces=True)
        await talk.heard(begun, *(More(7, b"%d" % number) for number in range(WINDOW)))
        talk.channel.send(Unreadable(8, "answered meanwhile, for nothing else comes"))
        await eventually(lambda: talk.said)
        assert [message.stream for message in talk.said] == [8]
        talk.said.clear()
        for _ in range(5 - WINDOW):
            talk.channel.send(Taken(7))
        await talk.heard(*(More(7, b"%d" % number) for number in range(WINDOW, 5)), End(7))


async def test_a_body_that_nobody_takes_is_not_asked_on_for():
    taking = asyncio.Event()

    async def answer(request):
        await taking.wait()
        body = await request.content.read()
        request.client.send(request, Answer(status=200, body=b"%d" % len(body)), keep=True)

    async with talking(answer) as talk:
        talk.channel.send(Ask(1, b"POST\n/\n\n\n1\n1"))
        talk.channel.send(More(1, bytes(1000)))
        await talk.heard(Taken(1))
        talk.channel.send(More(1, bytes(200_000)))
        talk.channel.send(Unreadable(2, "answered meanwhile, for nothing else comes"))
        await eventually(lambda: talk.said)
        assert [message.stream for message in talk.said] == [2]
        talk.said.clear()
        talk.channel.send(End(1))
        taking.set()
        told = Answered(1, 200, {}, b"201000", keep=True, in_pieces=False)
        await talk.heard(Taken(1), told)


async def test_a_client_gone_within_the_same_turn_leaves_nothing_behind():
    begun, ended = [], []

    async def answer(request):
        begun.append(request)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(request)

    async with talking(answer) as talk:
        talk.channel.send(Ask(1, b"GET\n/\n\n\n1\n1", b""))
        talk.channel.send(Gone(1))
        await talk.heard(End(1))
        assert begun == ended
        assert not talk.desk._clients


async def test_rubbish_closes_the_channel_and_gives_up_its_requests():
    given_up = asyncio.Event()

    async def answer(_request):
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    async with talking(answer) as talk:
        talk.channel.send(Beat(0, 3))
        talk.channel.send(Ask(1, b"GET\n/\n\n\n1\n1", b""))
        await eventually(lambda: talk.desk.connections == 3)
        talk.channel._transport.write(b"\0\0\0\3abc")
        await given_up.wait()
        assert talk.desk.connections == 0
