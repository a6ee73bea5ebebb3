"""What a full, hanging or dead container costs: its own requests, and not for long."""

from __future__ import annotations

import asyncio

import pytest

from mme.containers.breaker import Breaker
from mme.errors import InvocationTimeout, Overloaded, SiblingSilent
from tests.eventually import eventually
from tests.raw_http import raw, reply, serve_raw, silent_after
from tests.siblings import asked, client_of, sibling

OK = reply("200 OK", b"ok")


class Gate:
    """A container that answers when it is let."""

    def __init__(self):
        self.opened = asyncio.Event()

    async def answer(self, reader, writer):
        await self.opened.wait()
        await OK(reader, writer)


async def test_a_full_container_takes_no_more_and_is_named():
    gate = Gate()
    async with sibling(gate.answer, connections=2, waiting=1) as (client, server):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.invoke("/invocations", asked(b""))) for _ in range(3)]
            await eventually(lambda: len(server.requests) == 2)
            assert client.describe() == {"breaker": "closed", "in_flight": 2, "waiting": 1}
            with pytest.raises(Overloaded, match="Container pre is busy"):
                await client.invoke("/invocations", asked(b""))
            assert await client.ping() == "its ping is not answered within 2 s"  # it got through
            gate.opened.set()
        assert [task.result().body for task in tasks] == [b"ok"] * 3
        assert client.describe() == {"breaker": "closed", "in_flight": 0, "waiting": 0}


async def test_who_waits_for_a_place_waits_until_the_deadline():
    async with sibling(silent_after(b""), connections=1) as (client, server):
        first = asyncio.create_task(client.invoke("/invocations", asked()))
        await eventually(lambda: server.requests)
        with pytest.raises(InvocationTimeout, match="from container pre"):
            await client.invoke("/invocations", asked(seconds=0.05))
        cancelled = asyncio.create_task(client.invoke("/invocations", asked()))
        await eventually(lambda: client.describe()["waiting"] == 1)
        for task in (cancelled, first):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert client.describe() == {"breaker": "closed", "in_flight": 0, "waiting": 0}


async def test_a_dead_container_is_refused_at_once_and_asked_again_when_it_is_back():
    async with serve_raw(OK) as server:
        port = int(server.endpoint.rpartition(":")[2])
    async with client_of(server.endpoint) as client:
        client.breaker = Breaker(failures=2, pause_seconds=0.05)
        for _ in range(2):
            with pytest.raises(SiblingSilent, match="connection refused"):
                await client.invoke("/invocations", asked(b""))
        back = await asyncio.start_server(answer_ok, "127.0.0.1", port)
        async with back:
            with pytest.raises(
                SiblingSilent, match="its last requests failed, it is tried again in 1 s"
            ):
                await client.invoke("/invocations", asked(b""))
            assert client.describe()["breaker"] == "open"
            loop = asyncio.get_running_loop()
            await eventually(lambda: not client.breaker.refuses(loop.time()))
            assert (await client.invoke("/invocations", asked(b""))).body == b"ok"
            assert client.describe()["breaker"] == "closed"


async def answer_ok(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    await OK(reader, writer)
    writer.close()


async def test_while_one_probes_the_others_are_refused_and_a_cancelled_probe_frees_the_way():
    gate = Gate()
    async with sibling(raw(b""), raw(b""), gate.answer) as (client, server):
        client.breaker = Breaker(failures=2, pause_seconds=0.01)
        for _ in range(2):
            with pytest.raises(SiblingSilent):
                await client.invoke("/invocations", asked(b""))
        loop = asyncio.get_running_loop()
        await eventually(lambda: not client.breaker.refuses(loop.time()))
        probe = asyncio.create_task(client.invoke("/invocations", asked(b"")))
        await eventually(lambda: len(server.requests) == 3)
        with pytest.raises(SiblingSilent, match="it is being tried again"):
            await client.invoke("/invocations", asked(b""))
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        gate.opened.set()
        assert (await client.invoke("/invocations", asked(b""))).body == b"ok"


async def test_timeouts_open_it_too_and_those_in_the_queue_learn_of_it():
    async with sibling(silent_after(b""), connections=1) as (client, server):
        client.breaker = Breaker(failures=1)
        hanging = asyncio.create_task(client.invoke("/invocations", asked(seconds=0.1)))
        await eventually(lambda: server.requests)
        with pytest.raises(SiblingSilent, match="its last requests failed"):
            await client.invoke("/invocations", asked())
        with pytest.raises(InvocationTimeout):
            await hanging


async def test_nobody_queues_for_what_does_not_answer():
    async with sibling(silent_after(b""), connections=1) as (client, server):
        hanging = asyncio.create_task(client.invoke("/invocations", asked(seconds=60)))
        await eventually(lambda: server.requests)
        now = asyncio.get_running_loop().time()
        client.breaker = Breaker(failures=1)
        client.breaker.settle(client.breaker.admit(now), "failed", now)
        with pytest.raises(SiblingSilent, match="its last requests failed"):
            await client.invoke("/invocations", asked(seconds=60))
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (reply("200 OK"), None),
        (reply("200 OK", b"Healthy"), None),
        (reply("204 No"), "its ping is answered with 204"),
        (reply("500 Oh", b"x"), "its ping is answered with 500"),
        (raw(b"SSH-2.0\r\n\r\n"), "its ping is not answered: what it answered is not HTTP"),
        (raw(b""), "its ping is not answered: it closed the connection before it had answered"),
    ],
)
async def test_a_ping_says_what_is_wrong(answer, problem):
    async with sibling(answer) as (client, _):
        assert await client.ping() == problem
