"""HTTPS: certificates that are replaced while the server runs, and clients that must have one."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from contextlib import asynccontextmanager

import pytest

from mme.config import ServerConfig
from mme.domain import Reply
from mme.errors import ConfigError
from mme.front.server import Front
from mme.front.tls import Tls, open_tls
from mme.metrics import Metrics
from tests.certificates import issue
from tests.eventually import eventually
from tests.rooms.front_double import NAME, FakeService, Wire


@asynccontextmanager
async def serving(tls, service=None, **settings):
    config = ServerConfig(port=0, endpoint_name=NAME, **settings)
    front = Front(service or FakeService(), config, Metrics(NAME, "AllTraffic"), tls=tls)
    await front.start()
    try:
        yield front
    finally:
        await front.close()


@asynccontextmanager
async def trusting(front, certificate, own=None):
    """A connection of who trusts that certificate alone, and may have one of their own."""
    context = ssl.create_default_context(cafile=certificate)
    if own is not None:
        context.load_cert_chain(*own)
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port, ssl=context)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # for the transport to say so


async def answered(wire, body):
    wire.post(body)
    return (await wire.response()).body


async def test_large_bodies_go_both_ways(tmp_path):
    cert, key = issue(tmp_path, "server")
    body = bytes(range(256)) * 20_000
    async with serving(Tls(str(cert), str(key), None)) as front, trusting(front, cert) as wire:
        assert await answered(wire, body) == body
        assert await answered(wire, b"again") == b"again"


async def test_a_large_answer_that_nobody_takes_counts_until_it_is_given_up(tmp_path):
    cert, key = issue(tmp_path, "server")
    big = Reply(body=bytes(30_000_000), content_type="a/b")
    service, tls = FakeService(lambda _: big), Tls(str(cert), str(key), None)
    async with (
        serving(tls, service, body_seconds=1.0, bodies_limit_bytes=70_000_000) as front,
        trusting(front, cert) as wire,
    ):
        wire.reader._transport.pause_reading()
        wire.post(b"x")
        await eventually(lambda: front.bodies.held_bytes == len(big.body))
        async with trusting(front, cert) as other:
            other.post(b"x")
            refused = await other.response()
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        await eventually(lambda: front.bodies.held_bytes == 0)
        await eventually(lambda: not front._is_connected())
        wire.reader._transport.resume_reading()
        assert len(await wire.closed()) < len(big.body)
        async with trusting(front, cert) as other:
            assert await answered(other, b"x") == big.body
        await eventually(lambda: front.bodies.held_bytes == 0)


async def test_who_speaks_plain_http_gets_nothing(tmp_path):
    cert, key = issue(tmp_path, "server")
    async with serving(Tls(str(cert), str(key), None)) as front:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP/" not in await reader.read()
        writer.transport.abort()


def looked_at_twice(tls, now):
    for _ in range(2):
        now[0] += 1.0
        tls.refresh()


async def test_a_new_certificate_serves_new_connections_and_a_broken_one_none(tmp_path):
    cert, key = issue(tmp_path, "server")
    old = shutil.copy(cert, tmp_path / "old.pem")
    new, new_key = issue(tmp_path, "new")
    now = [0.0]
    tls = Tls(str(cert), str(key), None, clock=lambda: now[0])
    async with serving(tls) as front, trusting(front, old) as kept:
        cert.write_bytes(new.read_bytes())  # with the old one's key, for now
        looked_at_twice(tls, now)
        async with trusting(front, old) as wire:
            assert await answered(wire, b"1") == b"1"
        key.write_bytes(new_key.read_bytes())
        looked_at_twice(tls, now)
        async with trusting(front, new) as wire:
            assert await answered(wire, b"2") == b"2"
        with pytest.raises(ssl.SSLError):
            async with trusting(front, old):
                pass
        assert await answered(kept, b"3") == b"3"


async def test_a_client_without_a_certificate_that_was_asked_for_is_not_served(tmp_path):
    cert, key = issue(tmp_path, "server")
    trusted, stranger = issue(tmp_path, "trusted"), issue(tmp_path, "stranger")
    async with serving(Tls(str(cert), str(key), str(trusted[0]))) as front:
        async with trusting(front, cert, trusted) as wire:
            assert await answered(wire, b"x") == b"x"
        for own in (None, stranger):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                async with trusting(front, cert, own) as wire:
                    await answered(wire, b"x")


def test_files_that_are_no_certificate_are_named_at_the_start(tmp_path):
    cert, key = map(str, issue(tmp_path, "server"))
    other = str(issue(tmp_path, "other")[1])
    for wrong in (
        {"tls_cert": cert},
        {"tls_key": key},
        {"tls_client_ca": cert},
        {"tls_cert": cert, "tls_key": other},
        {"tls_cert": key, "tls_key": key},
        {"tls_cert": str(tmp_path / "none"), "tls_key": key},
        {"tls_cert": cert, "tls_key": key, "tls_client_ca": key},
    ):
        with pytest.raises(ConfigError, match="tls_"):
            open_tls(ServerConfig(**wrong))
    assert open_tls(ServerConfig()) is None
