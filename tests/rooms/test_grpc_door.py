"""The gRPC port's door: certificates that are replaced, messages that unfold beyond the limit."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from mme.config import ServerConfig
from mme.errors import Overloaded
from mme.front.bodies import Bodies
from mme.front.credentials import KeyFile
from mme.front.oip_grpc import OipGrpc
from mme.front.oip_messages import MESSAGES
from mme.front.record import Recorder
from mme.front.tls import Tls
from mme.metrics import Metrics
from tests.certificates import issue
from tests.rooms.front_double import NAME, FakeService
from tests.rooms.test_access import Operated

LIVE = "/inference.GRPCInferenceService/ServerLive"
INFER = "/inference.GRPCInferenceService/ModelInfer"
LIMIT_BYTES = 100_000


@asynccontextmanager
async def listening(
    tls: Tls | None = None,
    service: FakeService | None = None,
    bodies: Bodies | None = None,
    body_seconds: float = 30,
    calls: int = 1000,
    keys: KeyFile | None = None,
    **settings: int,
) -> AsyncIterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = ServerConfig(
        grpc_port=port,
        endpoint_name=NAME,
        body_limit_bytes=LIMIT_BYTES,
        body_seconds=body_seconds,
        drain_seconds=0,
        **settings,
    )
    recorder = Recorder(Metrics(NAME, "AllTraffic"), 0)
    bodies = bodies or Bodies(config.bodies_limit_bytes)
    service = service or FakeService()
    door = OipGrpc(
        service,
        config,
        Operated(),
        bodies=bodies,
        calls=calls,
        recorder=recorder,
        keys=keys,
        tls=tls,
    )
    await door.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await door.drain()


async def is_trusted(address: str, certificate: bytes) -> bool:
    """Whether a new connection of who trusts that certificate alone is answered."""
    credentials = grpc.ssl_channel_credentials(certificate)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        try:
            await channel.unary_unary(LIVE)(b"", timeout=5)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
    return True


@pytest.mark.timeout(60)
async def test_a_new_certificate_serves_new_connections(tmp_path: Path) -> None:
    cert, key = issue(tmp_path, "server")
    new, new_key = issue(tmp_path, "new")
    old = cert.read_bytes()
    async with listening(Tls(str(cert), str(key), None)) as address:
        credentials = grpc.ssl_channel_credentials(old)
        async with grpc.aio.secure_channel(address, credentials) as kept:
            await kept.unary_unary(LIVE)(b"", timeout=5)
            assert not await is_trusted(address, new.read_bytes())
            cert.write_bytes(new.read_bytes())
            key.write_bytes(new_key.read_bytes())
            while not await is_trusted(address, new.read_bytes()):
                pass
            assert not await is_trusted(address, old)
            await kept.unary_unary(LIVE)(b"", timeout=5)


async def test_a_message_that_unfolds_beyond_the_limit_is_refused() -> None:
    bomb = bytes(20 * LIMIT_BYTES)  # some 2 KB on the wire
    async with listening() as address, grpc.aio.insecure_channel(address) as channel:
        for folded in (grpc.Compression.Gzip, grpc.Compression.Deflate, None):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(INFER)(bomb, compression=folded, timeout=5)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await channel.unary_unary(LIVE)(b"", compression=grpc.Compression.Gzip, timeout=5)


async def code_of(call: grpc.aio.Call) -> grpc.StatusCode:
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call
    return await call.code()


def asked(size_bytes: int) -> bytes:
    """A request of about that size."""
    request = MESSAGES["ModelInferRequest"](model_name="m", id="x" * size_bytes)
    return request.SerializeToString()


async def test_messages_are_refused_while_there_is_no_room_for_the_largest() -> None:
    bodies = Bodies(2 * LIMIT_BYTES)
    taken = bodies.hold(LIMIT_BYTES + 1, "x")
    async with listening(bodies=bodies) as address, grpc.aio.insecure_channel(address) as channel:
        infer = channel.unary_unary(INFER)
        assert await code_of(infer(asked(1), timeout=5)) is grpc.StatusCode.UNAVAILABLE
        await channel.unary_unary(LIVE)(b"", timeout=5)
        bodies.drop(taken, "x")
        for size in (1, LIMIT_BYTES // 2, 2 * LIMIT_BYTES):  # what the fake answers is no tensor
            assert await code_of(infer(asked(size), timeout=5)) is not grpc.StatusCode.UNAVAILABLE
        garbage = infer(b"\xff" * LIMIT_BYTES, timeout=5)
        assert await code_of(garbage) is grpc.StatusCode.INVALID_ARGUMENT
    bodies.drop(bodies.hold(2 * LIMIT_BYTES, "x"), "x")  # nothing of them is held any more


async def test_nothing_of_a_refused_message_waits_for_the_collector() -> None:
    async with listening() as address, grpc.aio.insecure_channel(address) as channel:
        garbage, infer = b"\xff" * LIMIT_BYTES, channel.unary_unary(INFER)
        await code_of(infer(garbage))
        tracemalloc.start()
        gc.disable()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(20):
                await code_of(infer(garbage))
            assert tracemalloc.get_traced_memory()[0] - before < 5 * LIMIT_BYTES
        finally:
            gc.enable()
            tracemalloc.stop()


async def test_a_message_is_held_until_its_call_is_answered() -> None:
    bodies, service = Bodies(3 * LIMIT_BYTES), FakeService(gate=asyncio.Event())
    async with (
        listening(service=service, bodies=bodies) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = channel.unary_unary(INFER)(asked(LIMIT_BYTES // 2), timeout=10)
        await service.entered.wait()
        with pytest.raises(Overloaded):
            bodies.hold(3 * LIMIT_BYTES - LIMIT_BYTES // 2, "x")
        bodies.drop(bodies.hold(2 * LIMIT_BYTES, "x"), "x")  # but no more than it takes
        service.gate.set()
        await code_of(call)
    bodies.drop(bodies.hold(3 * LIMIT_BYTES, "x"), "x")


async def test_who_opens_a_call_and_sends_nothing_is_told_that_it_took_too_long() -> None:
    bodies = Bodies(LIMIT_BYTES)
    async with (
        listening(bodies=bodies, body_seconds=0.5) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        for broken in (False, True):
            call = channel.stream_unary(INFER)(timeout=10)
            if broken:
                await call.done_writing()
            code = grpc.StatusCode.INVALID_ARGUMENT if broken else grpc.StatusCode.DEADLINE_EXCEEDED
            assert await code_of(call) is code
            assert "request" in await call.details()
    bodies.drop(bodies.hold(LIMIT_BYTES, "x"), "x")


@pytest.mark.parametrize("said", [b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"])
async def test_a_connection_without_calls_is_closed(said: bytes) -> None:
    async with listening(body_seconds=1) as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(said)
        with contextlib.suppress(ConnectionError):
            await reader.read()  # to the end
        writer.close()
