"""A server that answers as it is told, also wrongly: cut bodies, silence, garbage."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """`requests` holds the head of each request; the last of `answers` is given again and again."""

    answers: list[Answer]
    requests: list[bytes] = field(default_factory=list)
    endpoint: str = ""
    connections: int = 0
    stop: Callable[[], Awaitable[None]] = field(init=False)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                number = min(len(self.requests), len(self.answers))
                await self.answers[number - 1](reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serve_raw(
    *answers: Answer, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serves on a free port until left or stopped."""
    raw = RawServer(list(answers))
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.connections += 1
        task = asyncio.create_task(raw._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def stop() -> None:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    scheme, raw.stop = "https" if tls else "http", stop
    raw.endpoint = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        await stop()


def reply(status: str, body: bytes = b"", *, announce: int | None = None, **headers: str) -> Answer:
    """A reply with `body`; `announce` lies about its length."""
    length = len(body) if announce is None else announce
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        if announce is not None:
            await writer.drain()
            raise ConnectionError  # closes in mid-body

    return answer


def silent_after(data: bytes) -> Answer:
    """Sends `data`, then nothing until the client goes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await reader.read()

    return answer


def raw(data: bytes) -> Answer:
    """Sends `data` and closes."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        raise ConnectionError

    return answer
