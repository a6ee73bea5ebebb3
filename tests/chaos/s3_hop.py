"""A hop in front of a real S3 that breaks what it carries, in the way it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

REFUSALS = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}
_HALF_SECOND_PIECES = 20


@dataclass
class S3Hop:
    """`fault` is one of REFUSALS, silence, slow, reset, short, flipped, held; or None."""

    target: str
    fault: str | None = None
    next_faults: list[str] = field(default_factory=list)  # of the next objects, instead of `fault`
    objects_sent: int = 0  # whole or not
    connections_taken: int = 0
    endpoint: str = ""
    under_way: asyncio.Event = field(default_factory=asyncio.Event)  # a held body is half sent
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_taken += 1
        try:
            while True:
                await self._answer(await reader.readuntil(b"\r\n\r\n"), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # an end has gone, or was told to
        finally:
            writer.close()

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        fault = self.fault
        if fault == "silence":
            await asyncio.Event().wait()
        if fault in REFUSALS:
            body = f"<Error><Code>{REFUSALS[fault]}</Code></Error>".encode()
            head = f"HTTP/1.1 {fault} No\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            return
        head, body = await self._ask(request)
        writer.write(head)
        if body and b" 200 " in head[:16]:
            self.objects_sent += 1
            fault = self.next_faults.pop(0) if self.next_faults else fault
        await self._send(body, fault, writer)

    async def _ask(self, request: bytes) -> tuple[bytes, bytes]:
        host, _, port = self.target.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            bodiless = request.startswith(b"HEAD") or b" 304 " in head[:16]
            size_bytes = 0 if bodiless else int(fields[b"content-length"])
            return head, await reader.readexactly(size_bytes)
        finally:
            writer.close()

    async def _send(self, body: bytes, fault: str | None, writer: asyncio.StreamWriter) -> None:
        half = len(body) // 2
        if fault == "slow":
            step = len(body) // _HALF_SECOND_PIECES + 1
            for start in range(0, len(body), step):
                writer.write(body[start : start + step])
                await asyncio.sleep(0.5 / _HALF_SECOND_PIECES)
        elif fault == "flipped":
            writer.write(body[:half] + bytes(byte ^ 0xFF for byte in body[half:]))
        elif fault is None:
            writer.write(body)
        else:
            writer.write(body[:half])
            await writer.drain()
            if fault == "held":
                self.under_way.set()
                await self.release.wait()
                writer.write(body[half:])
                return
            if fault == "reset":
                writer.transport.abort()
            raise ConnectionError  # short: closed in mid-body


@contextlib.asynccontextmanager
async def s3_hop(target: str) -> AsyncIterator[S3Hop]:
    """Serves on a free port until left."""
    hop = S3Hop(target)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(hop._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        hop.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield hop
        finally:
            ending = list(tasks)
            for task in ending:
                task.cancel()
            if ending:
                await asyncio.wait(ending)
