"""The server's end of one socket to a worker: bytes -> messages, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from mme.workers.protocol import (
    FrameBuffer,
    FromWorker,
    ProtocolError,
    ToWorker,
    decode_from_worker,
    encode,
)


class Channel(asyncio.Protocol):
    """One socket's server side.

    Args:
        receive: called with each message.
        lost: called once, when the socket is closed; rubbish on it closes it.
        frame_limit_bytes: what is longer is rubbish.
    """

    def __init__(
        self,
        receive: Callable[[FromWorker], None],
        lost: Callable[[], None],
        frame_limit_bytes: int,
    ) -> None:
        self._receive = receive
        self._lost = lost
        self._frames = FrameBuffer(frame_limit_bytes)
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is none by name

    def data_received(self, data: bytes) -> None:
        """The loop's."""
        try:
            for frame in self._frames.feed(data):
                self._receive(decode_from_worker(frame))
        except ProtocolError:
            self.abort()  # what follows rubbish is rubbish

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop's."""
        self._lost()

    def send(self, *messages: ToWorker) -> None:
        """Hands messages over in one go; to a socket that is closing, nothing."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(map(encode, messages)))

    def abort(self) -> None:
        """Closes the socket at once."""
        if self.transport is not None:
            self.transport.abort()
