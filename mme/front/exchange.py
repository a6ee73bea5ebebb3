"""One HTTP request on its way to its answer, and the service that is asked for it.

Decision: one `asyncio.timeout` a request serves three ends, as its deadline is moved: the body's
time, then none (the invocation's deadline is the engine's), then now, when draining has run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import hdrs, web

from mme.config import ServerConfig
from mme.domain import Invocation, ModelKey, Reply
from mme.errors import InvalidRequest, PayloadTooLarge


class Service(Protocol):
    """What the front serves."""

    async def invoke(self, invocation: Invocation) -> Reply:
        """Answers one invocation. Raises MmeError. Cancelled when the client goes away."""
        ...

    def readiness(self) -> list[str]:
        """Why it can't serve now; empty when it can."""
        ...

    def state(self) -> Mapping[str, object]:
        """What is resident, queued and running, fit for JSON."""
        ...

    def explain(self, key: ModelKey) -> Mapping[str, object]:
        """Why a model is in memory or is not, fit for JSON. Raises ModelMissing."""
        ...

    def accesses(self) -> Mapping[str, object]:
        """Who was asked for lately, fit for JSON. Raises ModelMissing."""
        ...

    def metrics_text(self) -> bytes:
        """The metrics in Prometheus text form."""
        ...


@dataclass(kw_only=True, slots=True, eq=False)
class Exchange:
    """One request and what is known of it so far; only its own handler writes to it."""

    request: web.BaseRequest
    request_id: str
    clock: Callable[[], float]  # the event loop's, in seconds; deadlines are by it
    started: float  # by `time.perf_counter`: uvloop's own clock moves in milliseconds
    server: ServerConfig
    window: asyncio.Timeout
    segment: str = ""  # what stood in the place of `{}` in the route's path
    body_bytes: int = 0
    invocation: Invocation | None = None
    reply: Reply | None = None

    async def receive(self) -> bytes:
        """The whole body, within the limits on bytes and time.

        Raises:
            PayloadTooLarge: announced or found to be over the limit; the rest is not kept.
            InvalidRequest: the body broke off or is not what its framing says.
            TimeoutError: by the window, where the client was too slow.
        """
        content = self.request.content
        announced = self.request.content_length
        if announced is not None and announced > self.server.body_limit_bytes:
            raise PayloadTooLarge(self.server.body_limit_bytes)
        waits = not content.is_eof()
        if waits:
            self.window.reschedule(self.clock() + self.server.body_seconds)
            await self._invite()
        try:
            body = await _read_all(self.request, self.server.body_limit_bytes)
        except (web.RequestPayloadError, ConnectionError) as error:
            raise InvalidRequest("The request's body broke off or is malformed.") from error
        if waits:
            self.window.reschedule(None)
        self.body_bytes = len(body)
        return body

    async def _invite(self) -> None:
        if self.request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _read_all(request: web.BaseRequest, limit_bytes: int) -> bytes:
    content = request.content
    if content.is_eof() and content.total_bytes <= limit_bytes:
        return content.read_nowait()  # it came with its headers, as small ones do
    chunks, size = [], 0
    while chunk := await content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit_bytes:
            raise PayloadTooLarge(limit_bytes)
    return b"".join(chunks)
