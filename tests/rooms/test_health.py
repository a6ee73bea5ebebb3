"""A container's health over time: what good and bad pings make of it, and who is told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from mme.containers.health import Health
from mme.metrics import Metrics
from tests.eventually import eventually
from tests.raw_http import reply, serve_raw
from tests.siblings import client_of

BAD = "its ping is answered with 500"


class Watched:
    """A health that is told of pings, and what it tells."""

    def __init__(self, startup_seconds=10.0):
        self.pings = asyncio.Queue()
        self.metrics = Metrics("e", "v")
        self.recoveries = 0
        self.health = Health(
            "pre",
            self.pings.get,
            startup_seconds=startup_seconds,
            metrics=self.metrics.of_container("pre"),
            on_recovery=self.recover,
        )
        self.began_at = asyncio.get_running_loop().time()

    def recover(self):
        self.recoveries += 1

    def tell(self, *pings, seconds=0.0):
        for ping in pings:
            self.health.record(ping, self.began_at + seconds)

    @property
    def up(self):
        labels = {"EndpointName": "e", "VariantName": "v", "ContainerName": "pre"}
        return self.metrics.registry.get_sample_value("mme_container_up", labels)


async def test_one_good_ping_makes_it_healthy_and_three_bad_ones_make_it_ill():
    it = Watched()
    with capture_logs() as logs:
        assert it.health.problem() == "container pre: it has not been pinged yet"
        it.tell(BAD)
        assert it.health.problem() == f"container pre: {BAD}"
        assert it.up == 0
        it.tell(None)
        assert it.health.problem() is None
        assert it.up == 1
        it.tell(BAD, BAD, None, BAD, BAD)
        assert it.health.problem() is None
        it.tell(BAD, BAD)
        assert it.health.problem() == f"container pre: {BAD}"
        assert it.up == 0
    told = [(log["event"], log["container"]) for log in logs]
    assert told == [("container_healthy", "pre"), ("container_unhealthy", "pre")]


async def test_only_a_good_ping_after_a_bad_one_is_a_recovery():
    it = Watched()
    it.tell(None, None, None)
    assert it.recoveries == 1
    it.tell(BAD, None, None)
    assert it.recoveries == 2


async def test_no_good_ping_within_the_startup_time_is_said_so_and_expires():
    it = Watched(startup_seconds=10)
    it.tell(*[BAD] * 9, seconds=9.9)
    assert not it.health.expired.is_set()
    it.tell(BAD, seconds=10)
    assert it.health.expired.is_set()
    assert it.health.problem() == (
        f"container pre: it has not answered its ping within 10 s of starting; last: {BAD}"
    )
    it.health.begin()
    assert not it.health.expired.is_set()
    it.tell(None, seconds=11)
    it.tell(*[BAD] * 5, seconds=20)
    assert not it.health.expired.is_set()
    it.tell(BAD, seconds=21)
    assert it.health.expired.is_set()


async def test_after_a_pause_longer_than_the_startup_time_one_bad_ping_does_not_expire_it():
    it = Watched(startup_seconds=10)
    it.tell(None, seconds=1)
    it.tell(BAD, BAD, seconds=1000)
    assert not it.health.expired.is_set()
    assert it.health.is_healthy
    it.tell(None, seconds=1001)
    it.tell(BAD, BAD, BAD, seconds=1012)
    assert it.health.expired.is_set()


@asynccontextmanager
async def watching(it):
    it.health.start()
    try:
        yield
    finally:
        await it.health.close()


async def test_a_ping_of_before_a_start_tells_nothing_of_what_was_started():
    it = Watched()
    async with watching(it):
        await eventually(it.pings._getters.__len__)  # it is asking
        it.health.begin()
        it.pings.put_nowait(None)
        await eventually(it.pings._getters.__len__)  # it asks again at once
        assert it.health.problem() == "container pre: it has not been pinged yet"
        it.pings.put_nowait(None)
        await eventually(lambda: it.health.is_healthy)


@pytest.mark.parametrize("bad", [reply("503 Not yet"), reply("404 No")])
async def test_a_container_that_comes_up_is_seen_soon(bad):
    it = Watched()
    async with serve_raw(bad, bad, reply("200 OK")) as server, client_of(server.endpoint) as client:
        it.health = Health(
            "pre", client.ping, startup_seconds=10, metrics=None, on_recovery=client.probe_soon
        )
        async with watching(it):
            await eventually(lambda: it.health.describe() == {"healthy": True, "last_ping": "good"})
        assert len(server.requests) == 3
        assert server.requests[0].startswith(b"GET /ping HTTP/1.1\r\n")
