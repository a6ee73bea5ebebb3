"""Heads of requests as they came, and what they say: a client mostly sends the same one again.

Decision: what a head says follows from its bytes, so the bytes of one that was read before need no
second reading; what differs between those of one client is cut out, see `Shape`. Only a request
that is whole on a connection that never had anything but such requests is looked up here; the
parser sees all others, and every head first. What is left of a head that was cut is found only by
who cut its own in the same places, or it could be sent as it is, and so with another's signature.
Between processes a head goes packed: its parts as lines, which no part can break. The same bytes
are the same head there, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import hdrs
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion
from aiohttp.streams import StreamReader
from msgspec import Struct
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from mme.front.shapes import Shape, cut, shape_of, varying

_END = b"\r\n\r\n"
_WITH_BODY = b"POST"
_LIMIT_BYTES = 2048  # of one head
_LIMIT = 512  # heads in a generation, of which there are two


class Head(Struct, eq=False):
    """What a request's head says; `fields` is for a dialect to keep what it made of it."""

    method: str
    url: URL
    headers: CIMultiDictProxy[str]
    version: HttpVersion
    should_close: bool
    body_bytes: int = 0  # of one that came in one piece
    shape: Shape = ()  # by which it was cut, to be found
    fields: dict[str, Any] | None = None
    packed: bytes | None = None  # once it was
    known: Head | None = None  # another one, from which it differs ...
    values: Mapping[str, str] | None = None  # ... in these headers

    def varied(self, values: Mapping[str, str]) -> Head:
        """The head of another request of this client's, which differs in these headers."""
        headers = CIMultiDict(self.headers)
        headers.update(values)
        return Head(
            self.method, self.url, CIMultiDictProxy(headers), self.version, self.should_close,
            self.body_bytes, self.shape, self.fields, known=self, values=values,
        )  # fmt: skip

    def understood(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Keeps what a dialect made of it, for all that differ in nothing a dialect reads."""
        self.fields = fields
        if self.known is not None:
            self.known.fields = fields
        return fields


class Heads:
    """Those read lately."""

    def __init__(self) -> None:
        self._young: dict[bytes, Head] = {}
        self._old: dict[bytes, Head] = {}

    def find(self, data: bytes, shape: Shape) -> tuple[Head, bytes] | None:
        """The head and the body, if `data` is one whole request with a head that is known."""
        start = data.find(_END) + len(_END)
        if start == len(data) and data.startswith(_WITH_BODY):
            return None  # its body is on its way
        came, values = data[:start], None
        if shape:
            if start > _LIMIT_BYTES or (both := cut(came, shape)) is None:
                return None
            came, values = both
        head = self._young.get(came)
        if head is None:
            head = self._old.get(came)
            if head is None:
                return None
            self._keep(came, head)
        if head.shape != shape or len(data) - start != head.body_bytes:
            return None
        return (head if values is None else head.varied(values)), data[start:]

    def learn(self, data: bytes, read: Sequence[tuple[Head, StreamReader]]) -> Shape | None:
        """Remembers the head that was read in `data`, and tells its shape.

        None: that was not one whole request.
        """
        if len(read) != 1:
            return None
        [(head, body)] = read
        start = data.find(_END) + len(_END)
        if not body.is_eof() or len(data) - start != body.total_bytes:
            return None
        if start > _LIMIT_BYTES or hdrs.EXPECT in head.headers:
            return ()
        head.body_bytes = body.total_bytes
        came = data[:start]
        shape = shape_of(came, head.headers)
        if shape is not None and (both := cut(came, shape)) is not None:
            head.shape = shape
            self._keep(both[0], head)
        return shape or ()

    def unpack(self, packed: bytes, values: Mapping[str, str] | None) -> Head:
        """The head that `pack_head` has packed."""
        head = self._young.get(packed)
        if head is None:
            head = self._old.get(packed) or _unpack(packed)
            if len(packed) <= _LIMIT_BYTES and (values or not varying(head.headers)):
                self._keep(packed, head)
        return head if values is None else head.varied(values)

    def _keep(self, came: bytes, head: Head) -> None:
        if len(self._young) >= _LIMIT:
            self._old, self._young = self._young, {}
        self._young[came] = head


def read_head(message: RawRequestMessage) -> Head:
    """What the parser made of a head."""
    return Head(message.method, message.url, message.headers, message.version, message.should_close)


def pack_head(head: Head) -> tuple[bytes, Mapping[str, str] | None]:
    """A head for another process, for `Heads.unpack` to read: one packed before, if it can be."""
    if head.known is not None:
        return pack_head(head.known)[0], head.values
    if head.packed is None:
        url, version = head.url, head.version
        lines = [head.method, url.raw_path, url.raw_query_string, "close" * head.should_close]
        lines += [str(version.major), str(version.minor)]
        for field in head.headers.items():
            lines += field
        head.packed = "\n".join(lines).encode("utf-8", "surrogateescape")
    return head.packed, None


def _unpack(packed: bytes) -> Head:
    text = packed.decode("utf-8", "surrogateescape")
    method, path, query, close, major, minor, *fields = text.split("\n")
    headers = CIMultiDict(zip(fields[::2], fields[1::2], strict=True))
    url = URL.build(path=path, query_string=query, encoded=True)  # as the parser builds it
    version = HttpVersion(int(major), int(minor))
    return Head(method, url, CIMultiDictProxy(headers), version, bool(close))
