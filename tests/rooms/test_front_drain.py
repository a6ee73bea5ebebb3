"""Going away without losing what could still be served."""

from __future__ import annotations

import asyncio

import pytest

from tests.rooms.front_double import FakeService, connected, serving


@pytest.fixture
def service() -> FakeService:
    return FakeService(gate=asyncio.Event())


async def begun(front) -> asyncio.Task[None]:
    """A drain that waits for what is in flight."""
    draining = asyncio.create_task(front.drain())
    await asyncio.sleep(0)  # its first step, up to where it waits
    assert front._draining
    return draining


async def test_what_is_in_flight_is_finished_and_its_connection_closed(service):
    async with serving(service) as front, connected(front) as wire:
        wire.post(b"x")
        await service.entered.wait()
        draining = await begun(front)
        service.gate.set()
        response = await wire.response()
        assert (response.status, response.headers["connection"]) == (200, "close")
        await draining
        assert await wire.closed() == b""


async def test_a_body_still_on_its_way_is_taken(service):
    service.gate.set()
    async with serving(service, drain_seconds=10) as front, connected(front) as wire:
        wire.send(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        async with connected(front) as other:
            other.get("/livez")
            await other.response()
        draining = await begun(front)
        wire.send(b"cd")
        assert (await wire.response()).body == b"abcd"
        await draining


async def test_new_connections_are_refused(service):
    async with serving(service) as front, connected(front) as wire:
        wire.post(b"x")
        await service.entered.wait()
        draining = await begun(front)
        with pytest.raises(OSError, match=r".*"):
            await asyncio.open_connection("127.0.0.1", front.port)
        service.gate.set()
        await draining


async def test_a_request_on_a_kept_connection_is_served_once_more_and_sent_elsewhere(service):
    async with serving(service) as front, connected(front) as busy, connected(front) as kept:
        busy.post(b"x")
        kept.get("/livez")
        assert (await kept.response()).status == 200
        await service.entered.wait()
        draining = await begun(front)
        kept.post(b"y")
        service.gate.set()
        last = await kept.response()
        assert (last.status, last.body, last.headers["connection"]) == (200, b"y", "close")
        assert (await busy.response()).status == 200
        await draining
        assert await kept.closed() == b""
    assert [invocation.body for invocation in service.seen] == [b"x", b"y"]


@pytest.mark.parametrize("path", ["/readyz", "/ping"])
async def test_a_probe_learns_of_it_(service, path):
    async with serving(service) as front, connected(front) as busy, connected(front) as probe:
        busy.post(b"x")
        probe.get(path)
        assert (await probe.response()).status == 200
        await service.entered.wait()
        draining = await begun(front)
        probe.get(path)
        unready = await probe.response()
        assert unready.status == 503
        assert b"draining" in unready.body
        service.gate.set()
        await draining


async def test_what_does_not_finish_in_time_is_failed_not_dropped(service):
    async with serving(service, drain_seconds=0.1) as front, connected(front) as wire:
        wire.post(b"x")
        await service.entered.wait()
        await front.drain()
        response = await wire.response()
        assert response.status == 503
        assert response.headers["x-amzn-errortype"] == "ServiceUnavailable"
        assert service.cancelled.is_set()


async def test_idle_connections_hold_up_draining_for_a_second_and_no_longer():
    async with serving(FakeService(), drain_seconds=1000) as front, connected(front) as wire:
        wire.get("/livez")
        await wire.response()
        async with asyncio.timeout(2.0):
            await front.drain()
            await front.close()
        assert await wire.closed() == b""


async def test_closing_without_draining_fails_what_is_in_flight_at_once(service):
    async with serving(service) as front, connected(front) as wire:
        wire.post(b"x")
        await service.entered.wait()
        async with asyncio.timeout(1):
            await front.close()
        assert (await wire.response()).status == 503
        assert service.cancelled.is_set()


async def test_a_service_that_does_not_let_go_does_not_hold_up_the_end(service):
    class Stubborn(FakeService):
        async def invoke(self, invocation):
            try:
                return await super().invoke(invocation)
            except asyncio.CancelledError:
                await forever.wait()
                raise

    forever = asyncio.Event()
    stubborn = Stubborn(gate=asyncio.Event())
    async with serving(stubborn, drain_seconds=0.05) as front, connected(front) as wire:
        wire.post(b"x")
        await stubborn.entered.wait()
        await front.drain()
        await front.close()
        assert await wire.closed() == b""
