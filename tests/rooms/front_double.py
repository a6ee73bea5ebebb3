"""A service without an engine behind it, and raw requests to a real front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mme.config import ServerConfig
from mme.domain import Invocation, Reply, Timings
from mme.front.server import Front
from mme.metrics import Metrics

NAME = "tenants"


def echo(invocation: Invocation) -> Reply:
    return Reply(
        body=invocation.body,
        content_type=invocation.content_type or "application/octet-stream",
        variant="AllTraffic",
        custom_attributes=invocation.custom_attributes,
        cache_hit=True,
        timings=Timings(predict_seconds=0.001),
    )


@dataclass
class FakeService:
    """Echoes, fails as told, or holds its requests until told; notes what it saw."""

    respond: Callable[[Invocation], Reply] = echo
    reasons: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = (
        None  # where there is one, it has to be set before anything answers
    )
    seen: list[Invocation] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def invoke(self, invocation: Invocation) -> Reply:
        self.seen.append(invocation)
        self.entered.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self.respond(invocation)

    def readiness(self) -> list[str]:
        return self.reasons

    async def tell_state(self) -> dict[str, object]:
        return {"models": []}

    def metrics_text(self, accept: str = "") -> tuple[bytes, str]:
        return b"# nothing yet\n", "text/plain; version=0.0.4"


@asynccontextmanager
async def serving(service: FakeService, **settings) -> AsyncIterator[Front]:
    """A front on a free port, closed afterwards."""
    config = ServerConfig(port=0, endpoint_name=NAME, **settings)
    front = Front(service, config, Metrics(NAME, config.variant_name))
    await front.start()
    try:
        yield front
    finally:
        await front.close()


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def post(self, body: bytes = b"", path: str = "/invocations", **headers: str) -> None:
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def get(self, path: str) -> None:
        self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def response(self) -> Response:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in fields}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Response(int(head[0].split()[1]), headers, body)

    async def closed(self) -> bytes:
        """What still comes until the server closes."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


@asynccontextmanager
async def connected(front: Front, source: str = "127.0.0.1") -> AsyncIterator[Wire]:
    here = (source, 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port, local_addr=here)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
