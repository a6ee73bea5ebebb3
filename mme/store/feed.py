"""Bytes from the event loop to one thread: bounded, in order, and the end always comes.

Decision: an unbounded `SimpleQueue` behind a semaphore of the loop. So the loop never blocks, and
the end or the abortion never has to wait for room. Rejected: `queue.Queue(maxsize)`, whose sentinel
can't get in when it is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from queue import SimpleQueue
from typing import TYPE_CHECKING

from mme.store.base import Chunk

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_DEPTH = 4  # chunks on their way, of up to 256 KiB: more let who sends take the thread's core


class FeedAborted(Exception):
    """Told to the reading thread: nobody wants what it makes any more."""


class Feed(io.RawIOBase):
    """A file to the thread that reads it, filled by a coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._room = asyncio.Semaphore(_DEPTH)
        self._chunks: SimpleQueue[Chunk] = SimpleQueue()  # an empty one is the end
        self._pending = memoryview(b"")
        self._ended = False
        self._aborted = False
        self.taken_bytes = 0  # by the thread

    async def fill(self, chunks: AsyncIterator[Chunk]) -> None:
        """Passes `chunks` on. Whatever stops it, the thread is told: the end, or an abortion."""
        try:
            async for chunk in chunks:
                if chunk:
                    await self._room.acquire()
                    self._chunks.put(chunk)
        except BaseException:
            self.abort()
            raise
        self._chunks.put(b"")

    def give(self, data: bytes) -> None:
        """Passes on all there is, before the thread begins."""
        self._pending = memoryview(data)
        self.taken_bytes = len(data)
        self._ended = True

    def abort(self) -> None:
        """Makes the thread's next read raise FeedAborted. Harmless after the end."""
        self._aborted = True
        self._chunks.put(b"")

    def check(self) -> None:
        """Raises FeedAborted in the thread after `abort`."""
        if self._aborted:
            raise FeedAborted

    def head(self, size_bytes: int) -> bytes:
        """The first bytes without taking them; fewer where the stream ends earlier."""
        while len(self._pending) < size_bytes and (chunk := self._next()):
            self._pending = memoryview(bytes(self._pending) + chunk)
        return bytes(self._pending[:size_bytes])

    def whole(self) -> memoryview | None:
        """All there is, where it is here and none of it was taken yet."""
        is_whole = self._ended and len(self._pending) == self.taken_bytes
        return self._pending if is_whole else None

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Blocks the thread until there are bytes, or the end (0)."""
        target = memoryview(buffer).cast("B")
        if not self._pending:
            self._pending = memoryview(self._next())
        count = min(len(target), len(self._pending))
        target[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count

    def _next(self) -> Chunk:
        if self._ended:
            return b""
        chunk = self._chunks.get()
        self.check()
        if chunk:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for room
                self._loop.call_soon_threadsafe(self._room.release)
        self._ended = not chunk
        self.taken_bytes += len(chunk)
        return chunk
