"""Servers that answer with the request's own body: what is left when the work is taken out.

    python -m load_tests.null_server aiohttp | bare | objects DIRECTORY

`aiohttp` is the floor under a server built on it; `bare` does nothing that a protocol need not, and
so shows the ceiling of whoever asks it; `objects` answers with the file that is asked for, as a
store does that has nothing else to do.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import cast

import uvloop
from aiohttp import web

from load_tests.messages import MalformedMessage, MessageParser

_HOST = "127.0.0.1"


async def _echo(request: web.BaseRequest) -> web.Response:
    return web.Response(body=await request.read(), content_type="text/csv")


async def _get_object(request: web.BaseRequest) -> web.Response:
    return web.Response(body=(Path(sys.argv[2]) / Path(request.path).name).read_bytes())


class Bare(asyncio.Protocol):
    """One connection that is answered without an HTTP library."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps what it writes to."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class
        self._parser = MessageParser()

    def data_received(self, data: bytes) -> None:
        """Answers each request that these bytes complete."""
        try:
            for _first_line, body in self._parser.feed(data):
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                self._transport.write(head + body)
        except MalformedMessage:
            self._transport.abort()


async def _serve(kind: str) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    answer = _get_object if kind == "objects" else _echo
    protocol = Bare if kind == "bare" else web.Server(answer, access_log=None)
    server = await loop.create_server(protocol, _HOST, 0)
    port = server.sockets[0].getsockname()[1]
    print(f"null server ({kind}) at http://{_HOST}:{port} as endpoint null", flush=True)
    await stopped.wait()
    server.close()  # and no farewell to kept connections: nobody is owed an answer


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as _runner:
        _runner.run(_serve(sys.argv[1]))
