"""One HTTP request on its way to its answer, and the service that is asked for it.

Decision: a request has no time of its own but while its body is awaited, which small ones never
are; the invocation's deadline is the engine's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from aiohttp import hdrs
from aiohttp.streams import StreamReader
from aiohttp.web import RequestPayloadError
from msgspec import Struct
from msgspec.structs import replace

from mme.config import ServerConfig
from mme.domain import Invocation, ModelKey, Reply
from mme.errors import InvalidRequest, Overloaded, PayloadTimeout, PayloadTooLarge
from mme.front.access import Caller
from mme.front.bodies import LARGE_BYTES, Bodies
from mme.front.heads import Head
from mme.front.wire import Answer
from mme.tracing import Traced

_LINGER_SECONDS = 5.0


class Service(Protocol):
    """What the front serves."""

    async def invoke(self, invocation: Invocation) -> Reply:
        """Answers one invocation. Raises MmeError. Cancelled when the client goes away."""
        ...

    def readiness(self) -> list[str]:
        """Why it can't serve now; empty when it can."""
        ...

    async def tell_state(self) -> Mapping[str, object]:
        """What is resident, queued and running, fit for JSON."""
        ...

    def explain(self, key: ModelKey) -> Mapping[str, object]:
        """Why a model is in memory or is not, fit for JSON. Raises ModelMissing."""
        ...

    async def accesses(self) -> Mapping[str, object]:
        """Who was asked for lately, fit for JSON. Raises ModelMissing."""
        ...

    def metrics_text(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics in the form that `accept`, a header, asks for, and that form's name."""
        ...


class Client(Protocol):
    """The other end of the connection."""

    task: asyncio.Task[None]  # that serves it; cancelled when it goes

    def send(self, request: Request | None, answer: Answer, *, keep: bool) -> None:
        """Writes an answer; it may ask again if `keep`."""
        ...

    async def send_piece(self, piece: bytes) -> None:
        """Writes more of an answer in pieces, once there is room for it."""
        ...

    async def taken(self) -> None:
        """Waits until a large answer has been taken, but for what sockets hold."""
        ...

    def invite(self) -> None:
        """Says that the body is welcome."""
        ...

    def site(self) -> str:
        """Where it is, see `site_of`; something else where that is not known."""
        ...


class Request(Struct, eq=False):
    """What was asked: its head, and its body as it comes, or as it came."""

    head: Head
    content: StreamReader
    client: Client
    body: bytes | None = None


class Exchange(Struct, eq=False, kw_only=True):
    """One request and what is known of it so far; only its own handler writes to it."""

    request: Request
    head: Head  # the request's
    request_id: str
    clock: Callable[[], float]  # the event loop's, in seconds; deadlines are by it
    started: float  # by `time.perf_counter`: uvloop's own clock moves in milliseconds
    server: ServerConfig
    segment: str = ""  # what stood in the place of `{}` in the route's path
    body: bytes | None = None  # once it was received
    caller: Caller | None = None  # None: nobody is asked who they are
    invocation: Invocation | None = None
    reply: Reply | None = None
    traced: Traced | None = None
    given_up: bool = False  # by the server, which ends
    bodies: Bodies | None = None  # None: as many as come
    held_bytes: int = 0  # of them, this one's
    answer_bytes: int = 0  # of them, its answer's
    who: str = ""  # has these bytes; empty: nobody yet

    def admit(self, invocation: Invocation) -> Invocation:
        """Notes what is asked for, and by whom. Raises AccessDenied where they may not."""
        self.invocation = invocation
        if self.caller is not None:
            self.caller.check(
                invocation.endpoint, invocation.target_model, invocation.target_container
            )
            self.invocation = replace(invocation, api_key=self.caller.grant.name)
        return self.invocation

    def may_use(self, model: ModelKey) -> ModelKey:
        """That model. Raises AccessDenied where the caller may not do this to it."""
        if self.caller is not None:
            self.caller.check(self.server.endpoint_name, model)
        return model

    def may_use_all(self) -> None:
        """Raises AccessDenied where the caller may not do this to every model."""
        if self.caller is not None:
            self.caller.check_all()

    def sees(self, model: str) -> bool:
        """Whether the caller may know of a model."""
        return self.caller is None or self.caller.sees(model)

    async def receive(self) -> bytes:
        """The whole body, within the limits on bytes and time; again, if it is asked again.

        Raises:
            PayloadTooLarge: announced or found to be over the limit; the rest is not kept.
            PayloadTimeout: the client was too slow.
            InvalidRequest: the body broke off or is not what its framing says.
        """
        body = self.received()
        if body is None:
            content, limit_bytes = self.request.content, self.server.body_limit_bytes
            body = self.body = await self._await_body(content, limit_bytes)
        return body

    def received(self) -> bytes | None:
        """The whole body if it is there, as small ones are, which come with their heads."""
        if self.body is None:
            request, limit_bytes = self.request, self.server.body_limit_bytes
            if request.body is not None:
                self.body = request.body if len(request.body) <= limit_bytes else None
            elif request.content.is_eof() and request.content.total_bytes <= limit_bytes:
                self.body = request.content.read_nowait()
        return self.body

    async def _await_body(self, content: StreamReader, limit_bytes: int) -> bytes:
        headers, seconds = self.head.headers, self.server.body_seconds
        # its digits were checked by the parser
        if int(headers.get(hdrs.CONTENT_LENGTH, "0")) > limit_bytes:
            raise PayloadTooLarge(limit_bytes)
        self._hold(int(headers.get(hdrs.CONTENT_LENGTH, "0")))
        if headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            self.request.client.invite()
        try:
            async with asyncio.timeout(seconds):
                return await self._read_all(content, limit_bytes)
        except TimeoutError:
            raise PayloadTimeout(
                f"The request was not received within {seconds:g} seconds."
            ) from None
        except (RequestPayloadError, ConnectionError) as error:
            raise InvalidRequest("The request's body broke off or is malformed.") from error

    async def _read_all(self, content: StreamReader, limit_bytes: int) -> bytes:
        chunks, size = [], 0
        while chunk := await content.readany():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit_bytes:
                raise PayloadTooLarge(limit_bytes)
            self._hold(size)
        return b"".join(chunks)

    def hold(self, answer: Answer) -> Answer:
        """The answer, which counts until it is taken if it is a model's and large.

        Raises:
            Overloaded: there is no room for it.
        """
        size_bytes = len(answer.body)
        if size_bytes > LARGE_BYTES and self.reply is not None and self.bodies is not None:
            try:
                self.answer_bytes = self.bodies.hold(size_bytes, self._whose())
            except Overloaded:
                self.reply = None
                del answer  # the error's frames live on while the refusal waits for its turn
                raise
        return answer

    async def taken(self) -> None:
        """Waits until its answer was taken, which then counts no more. Cancellation: as then."""
        try:
            await self.request.client.taken()
        finally:
            if self.bodies is not None:
                self.bodies.drop(self.answer_bytes, self.who)

    def _hold(self, size_bytes: int) -> None:
        if self.bodies is not None and size_bytes > self.held_bytes:
            self.held_bytes += self.bodies.hold(size_bytes - self.held_bytes, self._whose())

    def _whose(self) -> str:
        if not self.who:
            caller, client = self.caller, self.request.client
            self.who = client.site() if caller is None else f"key {caller.grant.name}"
        return self.who


async def read_away(content: StreamReader, seconds: float) -> None:
    """Reads on after an early refusal, for so long at most: a reset would overtake the answer."""
    with suppress(TimeoutError, RequestPayloadError):
        async with asyncio.timeout(min(seconds, _LINGER_SECONDS)):
            while await content.readany():
                pass
