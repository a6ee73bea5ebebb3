"""Another container: a client of it, and raw servers that read what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mme.containers.sibling_client import SiblingClient
from mme.domain import BodyStream, Invocation
from tests.raw_http import Answer, RawServer, serve_raw


def asked(body: bytes | BodyStream = b"1,2", seconds: float = 5.0, **changes: object) -> Invocation:
    return Invocation(
        request_id="r",
        endpoint="e",
        body=body,
        deadline=asyncio.get_running_loop().time() + seconds,
        **changes,
    )


@asynccontextmanager
async def client_of(
    base_url: str, name: str = "pre", **changes: int
) -> AsyncIterator[SiblingClient]:
    limits = {"connections": 4, "waiting": 4, "reply_limit_bytes": 25_000_000} | changes
    client = SiblingClient(name, base_url, **limits)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def sibling(
    *answers: Answer, name: str = "pre", **changes: int
) -> AsyncIterator[tuple[SiblingClient, RawServer]]:
    async with serve_raw(*answers) as server, client_of(server.endpoint, name, **changes) as client:
        yield client, server


async def read_body(server: RawServer, reader: asyncio.StreamReader) -> bytes:
    """The body of the request whose head was read last."""
    head = server.requests[-1].lower().split(b"\r\n")
    for line in head:
        if line.startswith(b"content-length: "):
            return await reader.readexactly(int(line.partition(b": ")[2]))
    assert b"transfer-encoding: chunked" in head
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body
