"""Clients over gRPC that would have everything for themselves: others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from mme.front.bodies import Bodies
from mme.front.credentials import KeyFile
from mme.front.grpc_peers import site_of_peer
from tests.eventually import eventually
from tests.raw_http2 import ACK, HEADERS, PING, SERVICE, call, frame, hello, message
from tests.rooms.test_grpc_door import LIMIT_BYTES, code_of, listening

NAME = f"{SERVICE}ServerMetadata"
LIVE = f"{SERVICE}ServerLive"
TURNS = 2  # at receiving, by this limit:
BODIES_BYTES = 2 * TURNS * LIMIT_BYTES
OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
KEYS = "".join(
    f'[[keys]]\nname = "{name}"\napi_key = "the-api-key-of-{name}"\n'
    for name in ("acme", "umbrella")
)


def key_of(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer the-api-key-of-{name}"}


@asynccontextmanager
async def connected(
    address: str, source: str = "127.0.0.2", window_bytes: int = 65535
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that comes from `source` and speaks frames."""
    reader, writer = await asyncio.open_connection(*address.split(":"), local_addr=(source, 0))
    writer.write(hello(window_bytes))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, int, bytes]]:
    """Kind, flags and payload of each that comes, until the connection ends."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readexactly(9)
            yield head[3], head[4], await reader.readexactly(int.from_bytes(head[:3]))


async def test_who_begins_many_messages_and_sends_none_keeps_nobody_from_being_received() -> None:
    bodies = Bodies(BODIES_BYTES)
    async with (
        listening(bodies=bodies, body_seconds=3, bodies_limit_bytes=BODIES_BYTES) as address,
        connected(address) as (_, attacker),
        grpc.aio.insecure_channel(address) as channel,
    ):
        for number in range(100):
            attacker.write(call(2 * number + 1, "ServerMetadata"))
        await attacker.drain()
        await eventually(lambda: bodies.held_bytes == TURNS * LIMIT_BYTES)  # it has all turns
        for _ in range(3):  # more than all that there are
            assert await code_of(channel.unary_unary(NAME)(b"")) is OK
    bodies.drop(bodies.hold(BODIES_BYTES, "x"), "x")  # nothing is held any more


async def test_one_key_that_has_all_turns_keeps_no_other_key_of_its_address_waiting(
    tmp_path: Path,
) -> None:
    file, bodies = tmp_path / "keys.toml", Bodies(BODIES_BYTES)
    file.write_text(KEYS)
    async with (
        listening(
            bodies=bodies, keys=KeyFile(file), body_seconds=3, bodies_limit_bytes=BODIES_BYTES
        ) as address,
        connected(address, "127.0.0.1") as (_, attacker),
        grpc.aio.insecure_channel(address) as channel,
    ):
        for number in range(100):
            attacker.write(call(2 * number + 1, "ServerMetadata", **key_of("acme")))
        await attacker.drain()
        await eventually(lambda: bodies.held_bytes == TURNS * LIMIT_BYTES)  # it has all turns
        metadata = tuple(key_of("umbrella").items())
        assert await code_of(channel.unary_unary(NAME)(b"", metadata=metadata)) is OK


async def test_of_all_calls_at_once_one_caller_has_half_and_the_rest_is_told_so() -> None:
    async with (
        listening(calls=20, bodies_limit_bytes=BODIES_BYTES, body_seconds=6) as address,
        grpc.aio.insecure_channel(address) as attacker,
        connected(address) as (reader, victim),
    ):
        begun = [attacker.stream_unary(NAME)() for _ in range(15)]
        refused = await asyncio.wait_for(_first(begun, 5), 15)
        for each in refused:
            assert await each.code() is REFUSED
            assert "Too many calls" in await each.details()
        victim.write(call(1, "ServerMetadata") + message(1, b""))
        told = [payload async for _, _, payload in _until_answered(reader)]
        assert any(b"mme" in payload for payload in told)
        for each in begun:
            each.cancel()
        for _ in range(30):  # one after the other: their places are free again
            assert await code_of(attacker.unary_unary(LIVE)(b"")) is OK


async def _first(calls: list[grpc.aio.StreamUnaryCall], count: int) -> list[grpc.aio.Call]:
    await eventually(lambda: sum(each.done() for each in calls) == count)
    return [each for each in calls if each.done()]


async def _until_answered(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, int, bytes]]:
    async for each in frames(reader):
        yield each
        if b"mme" in each[2]:
            return


@pytest.mark.parametrize("metadata", [{}, {"x-more": "x" * 5000}])
async def test_who_does_not_take_its_answer_is_cut_off_though_it_answers_pings(
    metadata: dict[str, str],
) -> None:
    async with (
        listening(calls=2, body_seconds=1) as address,
        grpc.aio.insecure_channel(address) as channel,
        connected(address, "127.0.0.1", window_bytes=0) as (reader, attacker),
    ):
        live = channel.unary_unary(LIVE)
        attacker.write(call(1, "ServerLive", **metadata) + message(1, b""))
        async for kind, flags, payload in frames(reader):
            if kind == HEADERS:  # the answer's, which itself can't be sent and keeps its place
                assert await code_of(live(b"")) is REFUSED
            elif kind == PING and not flags & ACK:
                attacker.write(frame(PING, ACK, 0, payload))
        while await code_of(live(b"")) is not OK:  # until gRPC has seen that it is gone
            pass


def test_a_caller_without_a_key_is_an_address_or_the_network_of_one() -> None:
    assert (
        site_of_peer("ipv4:10.0.0.1:80")
        == site_of_peer("ipv6:%5B::ffff:10.0.0.1%5D:81")
        == "10.0.0.1"
    )
    mine = site_of_peer("ipv6:%5B2001:db8:0:1::1%5D:80")
    assert mine == site_of_peer("ipv6:%5B2001:db8:0:1:ffff::2%5D:80") == "2001:db8:0:1::/64"


async def test_a_client_is_told_how_many_calls_one_connection_may_have() -> None:
    async with listening() as address, connected(address) as (reader, _):
        _, _, settings = await anext(frames(reader))
        assert (3).to_bytes(2) + (1000).to_bytes(4) in settings  # MAX_CONCURRENT_STREAMS
