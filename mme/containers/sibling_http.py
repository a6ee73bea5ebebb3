"""One HTTP exchange with another container: the only place of aiohttp's client.

Decisions: nothing is sent twice, for a request that got no answer may be what ended the container.
So that this is rarely felt, an idle connection is kept for less time than any server we know keeps
it (gunicorn 2 s, uvicorn 5 s); within one machine a new one costs next to nothing. A connection on
which something came that nobody asked for is not used again: it would be taken for the answer to
the next request.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from mme.containers.breaker import Outcome
from mme.containers.outgoing import SLICE_BYTES, Feed
from mme.domain import Body, BodyStream
from mme.errors import InvocationTimeout, SiblingFailed, SiblingSilent

_IDLE_SECONDS: Final = 1.5
_CONNECT_SECONDS: Final = 3.0
_OUR_MARGIN_SECONDS: Final = 0.01  # by which an earlier container's timeout comes before ours
_OWN_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_HEADER_TEXT = re.compile(r"[\t\x20-\x7e]{0,1024}")
_NO_CONTENT: Final = 204


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is sent. `path` begins with a slash and is sent as it stands."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Body
    deadline: float


class SiblingHttp:
    """Connections to one container; made while the event loop runs.

    Args:
        name: the container's, in errors.
        base_url: scheme, host and port, perhaps a path; may be changed for later exchanges.
        reply_limit_bytes: the largest answer.
    """

    def __init__(self, name: str, base_url: str, reply_limit_bytes: int) -> None:
        self.name = name
        self.base_url = base_url
        self.reply_limit_bytes = reply_limit_bytes
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            skip_auto_headers=_OWN_HEADERS,
            auto_decompress=False,
            request_class=_CleanRequest,
        )

    async def close(self) -> None:
        """Drops all connections."""
        await self.session.close()

    def exchange(self, request: Request) -> Exchange:
        """One request, sent when it is entered."""
        return Exchange(self, request)


class Exchange:
    """A request and its answer: entered, status and headers are there; iterated once, the body.

    Raises (on entering, and while iterating):
        SiblingSilent: no connection, no answer, no HTTP, or an answer that broke off.
        SiblingFailed: the answer is too large, or has headers that can't be handed on.
        InvocationTimeout: the deadline passed.
        MmeError: what the request's body raised while it was sent.
    Cancellation, and leaving before the body's end: the connection is dropped.
    """

    outcome: Outcome = "given up"
    status = 0
    content_type = ""
    custom_attributes: str | None = None
    length_bytes: int | None = None

    def __init__(self, http: SiblingHttp, request: Request) -> None:
        self._http = http
        self._request = request
        self._feed: Feed | None = None
        self._read_bytes = 0
        self.began_at = 0.0
        self.on_eof: Callable[[], None] = _nothing

    async def __aenter__(self) -> Self:
        self.began_at = asyncio.get_running_loop().time()
        with self._translated():
            self._response = await self._send()
        self.outcome = "answered"
        if self._feed is not None:
            self._feed.on_failure = self._response.close  # an answer may be waiting for the rest
        try:
            self._read_head()
        except BaseException:
            self._response.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._response.close()  # after the body's end the connection is back in the pool already

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with self._translated():
            async with asyncio.timeout_at(self._deadline()):
                chunk = await self._response.content.readany()
        if not chunk:
            self.on_eof()
            raise StopAsyncIteration
        self._read_bytes += len(chunk)
        if self._read_bytes > self._http.reply_limit_bytes:
            raise self._too_large()
        return chunk

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self])

    async def read_text(self, limit_bytes: int) -> str:
        """The beginning of the body as text; what had come of it when it broke off."""
        begun = b""
        try:
            async for chunk in self:
                begun += chunk
                if len(begun) > limit_bytes:
                    break
        except SiblingSilent:
            self.outcome = "answered"  # its status came
        return begun[:limit_bytes].decode(errors="replace")

    async def _send(self) -> aiohttp.ClientResponse:
        http, request = self._http, self._request
        headers, body = dict(request.headers), request.body
        if isinstance(body, BodyStream) or len(body) > SLICE_BYTES:
            self._feed = Feed(body)
            length_bytes = body.length_bytes if isinstance(body, BodyStream) else len(body)
            if length_bytes is not None:
                headers["Content-Length"] = str(length_bytes)
        data = self._feed or body or (None if request.method == "GET" else b"")
        url = URL(http.base_url.rstrip("/") + request.path, encoded=True)
        async with asyncio.timeout_at(self._deadline()):
            while True:
                try:
                    return await http.session.request(
                        request.method, url, headers=headers, data=data, allow_redirects=False
                    )
                except _UncleanConnectionError:
                    continue  # nothing was sent, and that connection is gone

    def _deadline(self) -> float:
        return self._request.deadline + (_OUR_MARGIN_SECONDS if self._feed else 0.0)

    def _read_head(self) -> None:
        response = self._response
        self.status = response.status
        self.length_bytes = 0 if response.status == _NO_CONTENT else response.content_length
        self.content_type = response.headers.get("Content-Type") or "application/octet-stream"
        self.custom_attributes = response.headers.get("X-Amzn-SageMaker-Custom-Attributes")
        for text in (self.content_type, self.custom_attributes or ""):
            if not _HEADER_TEXT.fullmatch(text):
                raise self._failed(
                    f"Container {self._http.name} answered with a content type or custom attributes"
                    " that are not at most 1024 ASCII characters.",
                    0,
                )
        if (self.length_bytes or 0) > self._http.reply_limit_bytes:
            raise self._too_large()

    def _too_large(self) -> SiblingFailed:
        return self._failed(
            f"Could not load the entire response body of container {self._http.name}:"
            f" the limit (answer_limit) is {self._http.reply_limit_bytes} bytes.",
            413,
        )

    def _failed(self, message: str, status: int) -> SiblingFailed:
        error = SiblingFailed(message, status)
        error.container = self._http.name  # it may come up while the next one reads the answer
        return error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except aiohttp.ServerTimeoutError as error:
            self.outcome = "failed"
            what = f"no connection within {_CONNECT_SECONDS:g} s"
            raise SiblingSilent(self._http.name, what) from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            if self._feed is not None and self._feed.failure is not None:
                raise self._feed.failure from None
            self.outcome = "failed"
            if isinstance(error, TimeoutError):
                raise timed_out(self._http.name) from None
            raise SiblingSilent(self._http.name, _words(error)) from error


def timed_out(container: str) -> InvocationTimeout:
    """The error of a deadline that passed, as SageMaker words it."""
    error = InvocationTimeout(
        f"Your invocation timed out while waiting for a response from container {container}. Review"
        " the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try"
        " again."
    )
    error.container = container
    return error


class _UncleanConnectionError(Exception):
    """The pool gave a connection on which something had come; nothing was sent on it."""


class _CleanRequest(aiohttp.ClientRequest):
    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.protocol is None or conn.protocol.should_close:
            raise _UncleanConnectionError
        return await super().send(conn)


def _nothing() -> None:
    pass


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the name of its host is not known"),
    (aiohttp.ServerDisconnectedError, "it closed the connection before it had answered"),
    (aiohttp.ClientResponseError, "what it answered is not HTTP"),
    (aiohttp.ClientPayloadError, "its answer broke off"),
)


def _words(error: Exception) -> str:
    """What happened, without addresses."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    error_number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(error_number).lower() if error_number else "no reason given"
    return f"the connection failed ({reason})"
