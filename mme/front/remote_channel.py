"""Either end of the socket between a front process and the engine's: messages in and out.

What is sent within one turn of the loop goes out together, at the turn's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from mme.front.remote_protocol import Message, Parcel, decode
from mme.workers.protocol import FrameBuffer, ProtocolError

_PARCEL_BYTES = 1 << 20  # from then on it is sent at once
_UNSENT_BYTES = 1 << 18  # beyond it, who can wait does


class Channel(asyncio.Protocol):
    """One end.

    Args:
        receive: called with each message.
        lost: called once, when the other end has closed or is about to; rubbish closes it.
    """

    def __init__(self, receive: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost
        self._frames = FrameBuffer()
        self._parcel = Parcel()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._room.set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is none by name
        self._transport.set_write_buffer_limits(_UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        """The loop's."""
        try:
            for frame in self._frames.feed(data):
                for message in decode(frame):
                    self._receive(message)
        except ProtocolError:
            self.abort()  # what follows rubbish is rubbish

    def pause_writing(self) -> None:
        """The loop's."""
        self._room.clear()

    def resume_writing(self) -> None:
        """The loop's."""
        self._room.set()

    def eof_received(self) -> bool:
        """The loop's. Our own end stays open."""
        self._lost()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop's."""
        self._transport = None
        self._room.set()
        self._lost()

    @property
    def is_full(self) -> bool:
        """Whether the other end is behind: who can wait for `room` should."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Until the other end has caught up, or is lost."""
        await self._room.wait()

    def send(self, message: Message) -> None:
        """Hands a message over; to an end that is gone, nothing. Raises ValueError: see Parcel."""
        if self._transport is None:
            return
        waiting_bytes = len(self._parcel)
        self._parcel.add(message)
        if not waiting_bytes:
            self._loop.call_soon(self._flush)
        elif waiting_bytes > _PARCEL_BYTES:
            self._flush()

    def finish(self) -> None:
        """Sends what is to be sent, and tells the other end that there is no more."""
        self._flush()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._parcel and self._transport is not None:
            self._transport.write(self._parcel.take())
