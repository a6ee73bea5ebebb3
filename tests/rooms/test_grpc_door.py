"""The gRPC port's door: certificates that are replaced, messages that unfold beyond the limit."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from mme.config import ServerConfig
from mme.front.oip_grpc import OipGrpc
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
async def listening(tls: Tls | None = None) -> AsyncIterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = ServerConfig(
        grpc_port=port, endpoint_name=NAME, body_limit_bytes=LIMIT_BYTES, drain_seconds=0
    )
    recorder = Recorder(Metrics(NAME, "AllTraffic"), 0)
    door = OipGrpc(FakeService(), config, Operated(), recorder=recorder, tls=tls)
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
