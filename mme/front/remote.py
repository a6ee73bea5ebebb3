"""In the engine's process: requests that a front process hands over, as if their clients were here.

Decision: to an exchange, a front's request has a `Client` like any other. It has a task of its own,
as a front asks for many at once; a body in pieces is fed into the same stream as one from a socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web import RequestPayloadError

from mme.front.connection import Answering, Refusing
from mme.front.exchange import Request
from mme.front.heads import Heads
from mme.front.remote_channel import Channel
from mme.front.remote_protocol import (
    WINDOW,
    Answered,
    Ask,
    Beat,
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

_READ_AHEAD_BYTES = 1 << 16  # of a body that is not taken


class RemoteClient:
    """The client of one request, behind its front."""

    __slots__ = ("_channel", "_window", "content", "flow", "is_owed", "stream", "task")

    task: asyncio.Task[None]

    def __init__(self, channel: Channel, stream: int) -> None:
        self._channel = channel
        self._window: asyncio.Semaphore | None = None  # of an answer in pieces
        self.stream = stream
        self.is_owed = True  # an answer, or the end of one
        self.flow: _Flow | None = None  # of a body that comes in pieces, as is `content`
        self.content = EMPTY_PAYLOAD

    def send(self, request: Request | None, answer: Answer, *, keep: bool) -> None:
        """Hands the answer over."""
        in_pieces = answer.pieces is not None
        if in_pieces:
            self._window = asyncio.Semaphore(WINDOW)
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

    def taken(self) -> None:
        """The client has a piece."""
        if self._window is not None:
            self._window.release()

    def expect_body(self) -> None:
        """It comes in pieces."""
        loop = asyncio.get_running_loop()
        self.flow = _Flow(loop, self._channel, self.stream)
        self.content = StreamReader(self.flow, _READ_AHEAD_BYTES, loop=loop)


class Desk:
    """One front process's requests.

    Args:
        answer: answers a request by its client's `send`.
        refuse: the answer to what is no HTTP.
        heads: those read lately, of all fronts.
    """

    def __init__(self, answer: Answering, refuse: Refusing, heads: Heads) -> None:
        self._answer = answer
        self._refuse = refuse
        self._heads = heads
        self._loop = asyncio.get_running_loop()
        self._clients: dict[int, RemoteClient] = {}
        self.channel = Channel(self._receive, self._lost)
        self.connections = 0
        self.beats = 0
        self.is_settled = asyncio.Event()  # the first beat has come, or none ever will
        self._is_open = True

    def drain(self) -> None:
        """Tells the front to take no new connections, and to end with its last one."""
        self.channel.send(Drain(0))

    async def close(self, grace_seconds: float) -> None:
        """Gives up what is at work, and sends the front what there is to send."""
        self._give_up()
        if self._clients:
            tasks = [client.task for client in self._clients.values()]
            await asyncio.wait(tasks, timeout=grace_seconds)
        self.channel.finish()

    def _receive(self, message: Message) -> None:
        if isinstance(message, Ask):
            self._begin(message)
        elif isinstance(message, Beat):
            self.connections = message.connections
            self.beats += 1
            self.is_settled.set()
        elif isinstance(message, Unreadable):
            client = RemoteClient(self.channel, message.stream)
            self._start(client, self._answer_unreadable(client, message.reason))
        elif known := self._clients.get(message.stream):
            self._go_on(known, message)

    def _begin(self, ask: Ask) -> None:
        client = RemoteClient(self.channel, ask.stream)
        if ask.body is None:
            client.expect_body()
        head = self._heads.unpack(ask.head)
        self._start(client, self._answer(Request(head, client.content, client, ask.body)))

    async def _answer_unreadable(self, client: RemoteClient, reason: str) -> None:
        client.send(None, await self._refuse(reason), keep=False)

    def _start(self, client: RemoteClient, work: Awaitable[None]) -> None:
        client.task = self._loop.create_task(self._serve(client, work), name="request")
        self._clients[client.stream] = client
        if not self._is_open:
            self._cancel(client)

    def _go_on(self, client: RemoteClient, message: Message) -> None:
        match message:
            case More() if client.flow is not None:
                client.content.feed_data(message.piece)
                client.flow.came()
            case End() if message.is_broken:
                client.content.set_exception(RequestPayloadError("malformed"))
            case End():
                client.content.feed_eof()
            case Taken():
                client.taken()
            case Gone():
                self._cancel(client)

    async def _serve(self, client: RemoteClient, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            del self._clients[client.stream]
            if client.is_owed:
                self.channel.send(End(client.stream))

    def _lost(self) -> None:
        self.connections = 0
        self.is_settled.set()
        self._give_up()

    def _give_up(self) -> None:
        self._is_open = False
        for client in self._clients.values():
            self._cancel(client)

    def _cancel(self, client: RemoteClient) -> None:
        # later, when it has surely begun: a task that is cancelled before never cleans up
        self._loop.call_soon(client.task.cancel)


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
