"""HTTP/1.1 messages as bytes: requests written, answers read, whatever pieces they arrive in.

Decision: bodies by Content-Length only, which is all that the servers measured here send;
anything else is an error to be counted, never guessed at. Rejected: httptools, whose callbacks cost
more than two searches in a small answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_HEAD_LIMIT_BYTES = 65536
_END_OF_HEAD = b"\r\n\r\n"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?=\r\n)", re.IGNORECASE)


class MalformedMessage(Exception):
    """The peer sent what is no message with a Content-Length."""


class MessageParser:
    """Cuts one connection's bytes into messages; of a head, only the first line is kept."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Takes the next bytes; returns the messages that they complete, as (first line, body).

        Raises:
            MalformedMessage: and nothing that follows can be understood.
        """
        rest = self._rest + data if self._rest else data
        messages = []
        while (end := rest.find(_END_OF_HEAD)) >= 0:
            start = end + len(_END_OF_HEAD)
            found = _CONTENT_LENGTH.search(rest, 0, start)
            if found is None:
                raise MalformedMessage(f"no Content-Length in {rest[:end]!r}")
            stop = start + int(found[1])
            if len(rest) < stop:
                break
            messages.append((rest[: rest.index(b"\r\n")], rest[start:stop]))
            rest = rest[stop:]
        else:
            if len(rest) > _HEAD_LIMIT_BYTES:
                raise MalformedMessage(f"no end of head within {_HEAD_LIMIT_BYTES} bytes")
        self._rest = rest
        return messages


def write_request(host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST over a connection that is kept."""
    fields = {"Host": host, **headers, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body
