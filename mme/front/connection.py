"""One HTTP/1.1 connection: requests in, in order, each answered before the next one is looked at.

Decision: aiohttp's parser and body streams under a loop of our own, one task a connection. Its
`web.RequestHandler` makes a task, a request and a response object for every request, more than half
of what a hot one cost. What would change our mind: to speak HTTP/2.
One timer closes the silent, the slow and the idle: it starts with the connection and after each
answer, and only a whole request head stops it. Who does not take an answer in that time is cut off.
A client that has gone cancels the task, and so its request. Protocols are never switched.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.tcp_helpers import tcp_keepalive
from aiohttp.web import RequestPayloadError

from mme.front.bodies import LARGE_BYTES
from mme.front.exchange import Request, read_away
from mme.front.head import format_head
from mme.front.heads import Heads, read_head
from mme.front.held_back import HeldBack
from mme.front.shapes import Shape
from mme.front.sites import site_of
from mme.front.slices import send_slices
from mme.front.wire import Answer

Answering = Callable[[Request], Awaitable[None]]
Refusing = Callable[[str], Awaitable[Answer]]
_READ_AHEAD_BYTES = 1 << 18  # of a body that is not taken
_PIPELINED = 32  # requests taken ahead; then the socket is left alone


class Owner(Protocol):
    """Whose connections they are; see `Connections`."""

    answer: Answering
    refuse: Refusing
    patience_seconds: float
    connections: set[Connection]
    heads: Heads


class Connection(BaseProtocol):
    """One client's connection."""

    __slots__ = (
        "_body", "_broken", "_closing", "_content", "_held", "_idle", "_idle_until", "_in_pieces",
        "_is_served", "_owner", "_queue", "_shape", "_timer", "_unread", "task",
    )  # fmt: skip

    task: asyncio.Task[None]  # its only one

    def __init__(self, owner: Owner) -> None:
        loop = asyncio.get_running_loop()
        parser = HttpRequestParser(
            self,
            loop,
            _READ_AHEAD_BYTES,
            payload_exception=RequestPayloadError,
            auto_decompress=False,  # a body is the model's, as it came; and a bomb stays folded
        )
        super().__init__(loop, parser)
        self._owner = owner
        self._queue: deque[Request] = deque()
        self._content: StreamReader | None = None  # the latest request's body
        self._in_pieces = False  # what came was not always one whole request
        self._shape: Shape = ()  # of the latest head that was read
        self._held = HeldBack(loop, self._read_in_pieces)
        self._broken: HttpProcessingError | None = None  # what came is no HTTP
        self._body = b""  # of a large answer, whose head was sent
        self._closing = False  # after what is at work now
        self._is_served = False
        self._idle: asyncio.Future[None] | None = None  # where there is nothing to do
        self._idle_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once, at the start."""
        super().connection_made(transport)
        tcp_keepalive(cast("asyncio.Transport", transport))  # uvloop's own class is none by name
        self._owner.connections.add(self)
        self.task = self._loop.create_task(self._serve(), name="connection")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called once, at the end."""
        super().connection_lost(exc)
        self.task.cancel()
        self._held.take()
        self._leave()
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Called with what came; and with nothing, to go on with what was left for later."""
        if not self._in_pieces:
            data = self._held.joined(data)
            if (known := self._owner.heads.find(data, self._shape)) is not None:
                self._held.take()
                self._put([Request(known[0], EMPTY_PAYLOAD, self, known[1])])
                return
            if self._held.hold(data):
                return
        self._read(data)

    def _read_in_pieces(self, data: bytes) -> None:
        self._in_pieces = True
        self._read(data)

    def _read(self, data: bytes) -> None:
        if self._broken is not None or self._parser is None:
            return
        try:
            messages, switches, rest = self._parser.feed_data(data)
            while switches:  # it would be another protocol from here on: to us, more of the same
                self._take(messages, b"")
                self._parser.set_upgraded(False)
                messages, switches, rest = self._parser.feed_data(rest)
        except HttpProcessingError as error:
            self._broken, self._in_pieces = error, True
            if self._content is not None and not self._content.is_eof():
                self._content.set_exception(RequestPayloadError("malformed"))
            self._wake()
        else:
            self._take(messages, data)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called for each body: mostly there is nothing to resume."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        """Called when the client has left too much of an answer unread."""
        super().pause_writing()
        self._unread = self._loop.call_later(self._owner.patience_seconds, self.abort)

    def resume_writing(self) -> None:
        """Called when it has caught up."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def send(self, request: Request | None, answer: Answer, *, keep: bool) -> None:
        """Writes an answer; `request` is None where what came was none."""
        self._closing = self._closing or not keep
        if self.transport is None:
            return
        body = answer.body
        head = format_head(
            answer.status,
            answer.headers,
            body_bytes=len(body) if answer.pieces is None else None,
            is_http_11=request is not None and request.head.version >= HttpVersion11,
            keep=not self._closing,
            now=time.time(),
        )
        if request is not None and request.head.method == "HEAD":
            self.transport.write(head)
        elif len(body) <= LARGE_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self._body = body

    async def send_piece(self, piece: bytes) -> None:
        """Writes more of an answer in pieces, once there is room for it."""
        await self.room()
        if self.transport is not None:
            self.transport.write(piece)

    async def room(self) -> None:
        """Waits until what was sent has been taken, but for what sockets hold."""
        if self._paused:
            await self._drain_helper()

    async def taken(self) -> None:
        """Sends the body of a large answer, and waits until it is taken; who is slow is cut off."""
        body, self._body = self._body, b""
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=1, low=0)  # all is taken, or it is not
            await send_slices(self, body, self._owner.patience_seconds, self.transport)

    def finish(self) -> None:
        """Ends when what is at work has been answered, at once if nothing is."""
        if self._held:
            self._read_in_pieces(self._held.take())
        self._closing = True
        self._wake()

    def abort(self) -> None:
        """Ends at once; what is not sent is lost."""
        self.task.cancel()
        if self.transport is not None:
            self.transport.abort()

    def invite(self) -> None:
        """Says that the body is welcome, to a client that asked before sending it."""
        if self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def site(self) -> str:
        """Where the client is, see `site_of`."""
        peer = None if self.transport is None else self.transport.get_extra_info("peername")
        return site_of(peer[0]) if peer else "gone"

    async def _serve(self) -> None:
        try:
            while not self._closing and (self._queue or await self._comes()):
                request = self._queue.popleft()
                if self._buffer_paused and len(self._queue) <= _PIPELINED // 2:
                    self._resume_reading_for_buffer()
                await self._owner.answer(request)
                if self._paused or self._body:
                    await self.taken()
                if not request.content.is_eof():
                    await read_away(request.content, self._owner.patience_seconds)
                if self._queue:  # asked without waiting: what never waits would hold up all others
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass  # the client has gone, or the server ends: the task's own end
        finally:
            self._is_served = True
            self._close()
            self._leave()

    def _close(self) -> None:
        """Once all is taken; who does not take it is cut off."""
        if self.transport is not None:
            self.transport.close()
            if not self._paused:  # else that is being timed
                self._unread = self._loop.call_later(self._owner.patience_seconds, self.abort)

    async def _comes(self) -> bool:
        """Waits for a request. False: there will be none any more."""
        if self._broken is None:
            self._idle_until = self._loop.time() + self._owner.patience_seconds
            if self._timer is None:
                self._timer = self._loop.call_at(self._idle_until, self._look_idle)
            self._idle = self._loop.create_future()
            try:
                await self._idle
            finally:
                self._idle = None
        if self._broken is not None and not self._queue:
            answer = await self._owner.refuse(type(self._broken).__name__)
            self.send(None, answer, keep=False)
        return bool(self._queue)

    def _take(
        self, messages: Sequence[tuple[RawRequestMessage, StreamReader]], came: bytes
    ) -> None:
        """What was read in `came`; from now on everything is read, if that is not one request."""
        read = [(read_head(head), content) for head, content in messages]
        if not self._in_pieces:
            shape = self._owner.heads.learn(came, read)
            self._in_pieces, self._shape = shape is None, shape or ()
        if read:
            self._content = read[-1][1]
            self._put([Request(head, content, self) for head, content in read])

    def _put(self, requests: list[Request]) -> None:
        self._queue.extend(requests)
        self._wake()
        if len(self._queue) >= _PIPELINED and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _leave(self) -> None:
        if self._is_served and self.transport is None:
            self._owner.connections.discard(self)

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _look_idle(self) -> None:
        self._timer = None
        if self._idle is None:
            return
        if self._loop.time() < self._idle_until:
            self._timer = self._loop.call_at(self._idle_until, self._look_idle)
        else:
            self.finish()
