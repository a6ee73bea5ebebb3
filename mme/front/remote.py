"""In the engine's process: requests that a front process hands over, as if their clients were here.

Decision: to an exchange, a front's request has a `Client` like any other. It has a task of its own,
as a front asks for many at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from aiohttp.web import RequestPayloadError

from mme.front.connection import Answering, Refusing
from mme.front.exchange import Request
from mme.front.heads import Heads
from mme.front.remote_channel import Channel
from mme.front.remote_client import RemoteClient
from mme.front.remote_protocol import Ask, Beat, Drain, End, Gone, Message, More, Taken, Unreadable


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
        head = self._heads.unpack(ask.head, ask.values)
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
                client.took()
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
