"""Pure: status and headers -> the bytes that go before an answer's body.

Decision: written by ourselves and sent in one piece with the body. aiohttp's `web.Response` takes
a dozen calls and several copies of the headers for it, a fifth of what a hot request cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

_KEPT, _CLOSED = "Connection: keep-alive\r\n", "Connection: close\r\n"
_REASONS = {status.value: status.phrase for status in HTTPStatus}


def format_head(  # noqa: PLR0913 - what a head is made of
    status: int,
    headers: Mapping[str, str],
    *,
    body_bytes: int | None,
    is_http_11: bool,
    keep: bool,
    now: float,
) -> bytes:
    """The status line and all headers.

    Args:
        status: as it is sent.
        headers: the answer's own.
        body_bytes: the body's length; None: it ends with the connection.
        is_http_11: else 1.0, as it was asked.
        keep: the connection may be used again.
        now: seconds since the epoch, for `Date`.

    Raises:
        ValueError: a header holds a line break, and so would be two.
    """
    own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if own.count("\n") != len(headers) or own.count("\r") != len(headers):
        raise ValueError("a header holds a line break")
    if body_bytes and "Content-Type" not in headers:
        own += "Content-Type: application/octet-stream\r\n"
    # what goes without saying in its version is not said
    connection = "" if keep == is_http_11 else _KEPT if keep else _CLOSED
    status_line, date = _status_line(status, is_http_11), _date(int(now))
    length = "" if body_bytes is None else f"Content-Length: {body_bytes}\r\n"
    return f"{status_line}{own}Server: mme\r\n{length}{date}{connection}\r\n".encode()


@lru_cache(maxsize=64)
def _status_line(status: int, is_http_11: bool) -> str:
    return f"HTTP/1.{int(is_http_11)} {status} {_REASONS.get(status, '')}\r\n"


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return f"Date: {formatdate(seconds, usegmt=True)}\r\n"
