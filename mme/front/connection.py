"""Connections: what aiohttp's low-level server does by default and we do otherwise.

Decision: `keepalive_timeout` is the time to send a request, as aiohttp counts it from connecting
and from the last answer, and only a whole request head stops it: one timer closes the silent, the
slow and the idle. Who does not read an answer in that time is cut off too. What can't be parsed is
answered in our shape, without a traceback in the log, as that would be a way to fill it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refusing = Callable[[BaseException | None], web.StreamResponse]
_LINGER_SECONDS = 5.0  # reading on after an early refusal, or its reset would overtake the answer


class Connections(web.Server):
    """All connections of a server.

    Args:
        answer: answers a request; cancelled when its client goes away.
        refuse: the answer to what is no HTTP.
        patience_seconds: to wait for a whole request head, and for an answer to be taken.
    """

    def __init__(self, answer: Answering, refuse: Refusing, patience_seconds: float) -> None:
        super().__init__(answer, handler_cancellation=True)
        self._refuse = refuse
        self._patience_seconds = patience_seconds

    def __call__(self) -> web.RequestHandler:
        """The protocol of one new connection."""
        return _Connection(self, self._refuse, self._patience_seconds)


class _Connection(web.RequestHandler):
    __slots__ = ("_patience_seconds", "_refuse", "_unread")

    def __init__(self, owner: Connections, refuse: Refusing, patience_seconds: float) -> None:
        super().__init__(
            owner,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=patience_seconds,
            lingering_time=min(patience_seconds, _LINGER_SECONDS),
            access_log=None,  # type: ignore[arg-type]  # its own way of saying "none"
            auto_decompress=False,  # a body is the model's, as it came; and a bomb stays folded
        )
        self._refuse = refuse
        self._patience_seconds = patience_seconds
        self._unread: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """Called when the client has left too much of an answer unread."""
        super().pause_writing()
        if self.transport is not None:
            loop = asyncio.get_running_loop()
            self._unread = loop.call_later(self._patience_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Called when it has caught up."""
        super().resume_writing()
        self._forget_unread()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called once, at the end."""
        super().connection_lost(exc)
        self._forget_unread()

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what could not be parsed; the connection ends with it."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; nothing can be said any more") from exc
        return self._refuse(exc)
