"""A TCP hop that makes what is behind it far: late, and no connection faster than it may be.

Decision: in a thread of its own with a loop of its own, so that it paces while others wait. What
the handshake would take is left out, for kept connections have it behind them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

_PIECE_BYTES = 32 * 1024
_PIECES = 256  # on their way in one direction of a connection


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far: seconds one way, and bytes a second of one connection."""

    latency_seconds: float
    connection_rate: float


@contextlib.contextmanager
def far_hop(port: int, distance: Distance) -> Iterator[int]:
    """Passes on between its own port, which it gives, and `port`, both on loopback, until left."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    hop = _Hop(port, distance)
    thread = threading.Thread(target=lambda: loop.run_until_complete(hop.serve(ready)))
    thread.start()
    try:
        ready.wait()
        yield hop.port
    finally:
        loop.call_soon_threadsafe(hop.ended.set)
        thread.join()
        loop.close()


class _Hop:
    def __init__(self, target: int, distance: Distance) -> None:
        self._target = target
        self._distance = distance
        self._tasks: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()
        self.port = 0

    async def serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self.ended.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            async with asyncio.TaskGroup() as group:
                for source, sink in ((reader, before), (behind, writer)):
                    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)
                    group.create_task(_take(source, pieces))
                    group.create_task(self._give(pieces, sink))
        except* ConnectionError:
            pass  # one end has gone
        finally:
            before.close()
            writer.close()

    async def _give(
        self, pieces: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter
    ) -> None:
        loop, free_at = asyncio.get_running_loop(), 0.0
        while True:
            came_at, piece = await pieces.get()
            due = max(came_at + self._distance.latency_seconds, free_at)
            free_at = due + len(piece) / self._distance.connection_rate
            await asyncio.sleep(due - loop.time())
            if not piece:
                raise ConnectionError
            sink.write(piece)
            await sink.drain()


async def _take(source: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
    loop, piece = asyncio.get_running_loop(), b" "
    while piece:
        piece = await source.read(_PIECE_BYTES)
        await pieces.put((loop.time(), piece))
