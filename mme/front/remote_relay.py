"""In a front process: every request is asked of the engine's process, and its answer passed on.

Decision: nothing is decided here but what is HTTP. Who may ask, what it means, how large or slow a
body may be: all of that is the engine's, which takes a body from here as it would from a socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

from aiohttp.streams import StreamReader
from aiohttp.web import RequestPayloadError

from mme.front.bodies import LARGE_BYTES
from mme.front.exchange import Request
from mme.front.heads import pack_head
from mme.front.remote_channel import Channel
from mme.front.remote_protocol import (
    WINDOW,
    Answered,
    Ask,
    Drain,
    End,
    Gone,
    Invite,
    Message,
    More,
    Taken,
    Unreadable,
)
from mme.front.wire import Answer


class _Asked:
    """One request that the engine has."""

    def __init__(self, request: Request | None) -> None:
        self._request = request
        self.answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self.pieces: asyncio.Queue[bytes | None] | None = None  # of the answer; None: its end
        self.window: asyncio.Semaphore | None = None  # of the body

    def receive(self, message: Message) -> None:
        """Takes what is said of it."""
        match message:
            case Answered():
                if message.in_pieces:
                    self.pieces = asyncio.Queue()
                if not self.answered.done():
                    self.answered.set_result(message)
            case More() if self.pieces is not None:
                self.pieces.put_nowait(message.piece)
            case End():
                self.end()
            case Taken() if self.window is not None:
                self.window.release()
            case Invite() if self._request is not None:
                self._request.client.invite()

    def end(self) -> None:
        """There is no more of the answer, or none: then its connection closes, by its task."""
        if self.pieces is not None:
            self.pieces.put_nowait(None)
        self.answered.cancel()  # nothing, once there is one


class Relay:
    """What answers the requests of a front process.

    Args:
        whole_bytes: a body up to here goes with its head, if it is all there.
    """

    channel: Channel  # to the engine; set before anything is asked

    def __init__(self, whole_bytes: int) -> None:
        self._whole_bytes = whole_bytes
        self._asked: dict[int, _Asked] = {}
        self._stream = 0
        self.is_draining = False
        self.is_lost = False  # the engine has no more to say
        self.changed = asyncio.Event()  # one of these two

    async def answer(self, request: Request) -> None:
        """Answers by the engine's word. Cancellation: tells it that the client has gone."""
        if self.channel.is_full:
            await self.channel.room()
        asked, stream = self._begin(request)
        body = self._whole(request)
        head, values = pack_head(request.head)
        self.channel.send(Ask(stream, head, body, values))
        try:
            if body is not None:
                await self._pass_on(asked, stream, request)
            else:
                async with self._sending(asked, stream, request.content):
                    await self._pass_on(asked, stream, request)
        except BaseException as gone:
            self.channel.send(Gone(stream))
            if not isinstance(gone, ConnectionError):  # it left an answer in pieces
                raise
        finally:
            del self._asked[stream]

    async def refuse(self, reason: str) -> Answer:
        """The engine's answer to what is no HTTP."""
        asked, stream = self._begin(None)
        self.channel.send(Unreadable(stream, reason))
        try:
            answered = await asked.answered
        finally:
            del self._asked[stream]
        return Answer(status=answered.status, headers=answered.headers, body=answered.body)

    def receive(self, message: Message) -> None:
        """Takes what the engine says."""
        if isinstance(message, Drain):
            self.is_draining = True
            self.changed.set()
        elif asked := self._asked.get(message.stream):  # else its client has left meanwhile
            asked.receive(message)

    def lost(self) -> None:
        """The engine has said its last; who still waits for it is not answered."""
        self.is_lost = True
        self.changed.set()
        for asked in self._asked.values():
            asked.end()

    def _begin(self, request: Request | None) -> tuple[_Asked, int]:
        self._stream += 1
        asked = self._asked[self._stream] = _Asked(request)
        if self.is_lost:
            asked.end()
        return asked, self._stream

    def _whole(self, request: Request) -> bytes | None:
        """The body, if it is all there, and no more than goes at once."""
        content = request.content
        if request.body is None and content.is_eof() and content.total_bytes <= self._whole_bytes:
            return content.read_nowait()
        return request.body

    async def _pass_on(self, asked: _Asked, stream: int, request: Request) -> None:
        answered = await asked.answered
        pieces = None if asked.pieces is None else _until_end(asked.pieces)
        answer = Answer(
            status=answered.status, headers=answered.headers, body=answered.body, pieces=pieces
        )
        request.client.send(request, answer, keep=answered.keep)
        if pieces is None:
            if len(answer.body) > LARGE_BYTES:
                await request.client.taken()
                self.channel.send(Taken(stream))
            return
        async with aclosing(pieces):
            async for piece in pieces:
                await request.client.send_piece(piece)
                self.channel.send(Taken(stream))

    @asynccontextmanager
    async def _sending(
        self, asked: _Asked, stream: int, content: StreamReader
    ) -> AsyncGenerator[None, None]:
        """Sends the body meanwhile, until all is said."""
        asked.window = asyncio.Semaphore(WINDOW)
        sending = asyncio.create_task(self._send_body(stream, content, asked.window))
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _send_body(
        self, stream: int, content: StreamReader, window: asyncio.Semaphore
    ) -> None:
        try:
            while True:
                await window.acquire()
                piece = await content.readany()
                if not piece:
                    break
                self.channel.send(More(stream, piece))
        except RequestPayloadError:
            self.channel.send(End(stream, is_broken=True))
        else:
            self.channel.send(End(stream))


async def _until_end(pieces: asyncio.Queue[bytes | None]) -> AsyncGenerator[bytes, None]:
    while (piece := await pieces.get()) is not None:
        yield piece
