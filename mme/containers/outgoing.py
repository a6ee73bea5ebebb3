"""A large body on its way out to a container, in pieces.

No generators, which would be left to the collector when a container answers half-way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Self

from mme.domain import Body, BodyStream
from mme.errors import MmeError

SLICE_BYTES: Final = 256 * 1024


class Feed:
    """A body on its way out. Its own failure is kept: it is not the failure of who reads it."""

    def __init__(self, body: Body) -> None:
        self._chunks = body.chunks if isinstance(body, BodyStream) else _Slices(body)
        self.failure: MmeError | None = None
        self.on_failure: Callable[[], None] = lambda: None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        # Lets an answer in that came meanwhile: if the peer has closed after it, the next write
        # fails, and asyncio would drop the answer unread.
        await asyncio.sleep(0)
        try:
            return await anext(self._chunks)
        except MmeError as error:
            self.failure = error
            self.on_failure()
            raise


class _Slices(AsyncIterator[bytes]):
    """A large body in pieces. No generator, which would be left to the collector half-way."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._sent_bytes = 0

    async def __anext__(self) -> bytes:
        piece = self._body[self._sent_bytes : self._sent_bytes + SLICE_BYTES]
        if not piece:
            raise StopAsyncIteration
        self._sent_bytes += len(piece)
        return piece
