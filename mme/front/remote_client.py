"""In the engine's process: the client of one request, who is behind a front process.

A body that comes in pieces is fed into the same stream as one from a socket, and asked on for when
there is room; an answer in pieces goes out as they are taken.
"""

from __future__ import annotations

import asyncio

from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from mme.front.bodies import LARGE_BYTES
from mme.front.exchange import Request
from mme.front.remote_channel import Channel
from mme.front.remote_protocol import WINDOW, Answered, Invite, More, Taken
from mme.front.wire import Answer

_READ_AHEAD_BYTES = 1 << 16  # of a body that is not taken


class RemoteClient:
    """The client of one request, behind its front."""

    __slots__ = ("_channel", "_window", "content", "flow", "is_owed", "stream", "task")

    task: asyncio.Task[None]

    def __init__(self, channel: Channel, stream: int) -> None:
        self._channel = channel
        self._window: asyncio.Semaphore | None = None  # of an answer in pieces, or a large one
        self.stream = stream
        self.is_owed = True  # an answer, or the end of one
        self.flow: _Flow | None = None  # of a body that comes in pieces, as is `content`
        self.content = EMPTY_PAYLOAD

    def send(self, request: Request | None, answer: Answer, *, keep: bool) -> None:
        """Hands the answer over."""
        in_pieces = answer.pieces is not None
        if in_pieces:
            self._window = asyncio.Semaphore(WINDOW)
        elif len(answer.body) > LARGE_BYTES:
            self._window = asyncio.Semaphore(0)
        self._channel.send(
            Answered(self.stream, answer.status, answer.headers, answer.body, keep, in_pieces)
        )
        self.is_owed = in_pieces

    async def send_piece(self, piece: bytes) -> None:
        """Hands more of an answer over, once those before were taken."""
        if self._window is not None:
            await self._window.acquire()
        self._channel.send(More(self.stream, piece))

    def invite(self) -> None:
        """Says that the body is welcome."""
        self._channel.send(Invite(self.stream))

    def site(self) -> str:
        """All who are behind front processes are at one."""
        return "fronts"

    async def taken(self) -> None:
        """Waits until the client has the whole of a large answer."""
        if self._window is not None:
            await self._window.acquire()

    def took(self) -> None:
        """The client has a piece, or all of a large answer."""
        if self._window is not None:
            self._window.release()

    def expect_body(self) -> None:
        """It comes in pieces."""
        loop = asyncio.get_running_loop()
        self.flow = _Flow(loop, self._channel, self.stream)
        self.content = StreamReader(self.flow, _READ_AHEAD_BYTES, loop=loop)


class _Flow(BaseProtocol):
    """Asks for more of a body when there is room for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: Channel, stream: int) -> None:
        super().__init__(loop)
        self._channel = channel
        self._stream = stream
        self._untold = 0

    @property
    def connected(self) -> bool:
        """Where it is not, the task that reads is cancelled."""
        return True

    def came(self) -> None:
        """A piece has."""
        self._untold += 1
        if not self._reading_paused:
            self._ask_on()

    def pause_reading(self) -> None:
        """The stream's, when it is full."""
        self._reading_paused = True

    def resume_reading(self, resume_parser: bool = True) -> None:
        """The stream's, when it is not any more."""
        self._reading_paused = False
        self._ask_on()

    def _ask_on(self) -> None:
        for _ in range(self._untold):
            self._channel.send(Taken(self._stream))
        self._untold = 0
