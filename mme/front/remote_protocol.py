"""What front processes and the engine's say to each other: messages <-> length-prefixed parcels.

Sans-IO. A parcel is a 4-byte big-endian length and a msgpack array of all that one turn of a loop
had to say, so that one system call, one frame and one decoding serve many requests. `stream` is the
number that a front has given to one request.
Bodies and answers that don't come whole go in pieces, `WINDOW` of them under way at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from mme.workers.protocol import ProtocolError

WINDOW: Final = 2  # pieces that nobody has taken yet
_LENGTH_BYTES: Final = 4
_ARRAY: Final = b"\xdd"  # msgpack: an array, its length in the next 4 bytes
_HEAD_BYTES: Final = _LENGTH_BYTES + len(_ARRAY) + 4


class _Message(msgspec.Struct, array_like=True):
    """Base of all messages; each has its own tag."""

    stream: int  # 0: of no request


class Ask(_Message, tag=1):
    """Front: a request; its body too, if it is there. `head` is packed as heads.py says."""

    head: bytes
    body: bytes | None = None
    values: Mapping[str, str] | None = None  # of headers in which the request differs from `head`


class Unreadable(_Message, tag=2):
    """Front: what came is no HTTP; what is to be answered?"""

    reason: str


class Gone(_Message, tag=3):
    """Front: the client has left."""


class Beat(_Message, tag=4):
    """Front: it serves, so many connections."""

    connections: int


class Answered(_Message, tag=10):
    """Engine: the answer, or in place of a body the word that it follows in pieces."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    keep: bool
    in_pieces: bool


class Invite(_Message, tag=11):
    """Engine: the body is welcome, to a client that asked before sending it."""


class Drain(_Message, tag=12):
    """Engine: no new connections; end when none is left."""


class More(_Message, tag=20):
    """Either: a piece of a body, or of an answer."""

    piece: bytes


class Taken(_Message, tag=21):
    """Either: a piece was taken; there may be another."""


class End(_Message, tag=22):
    """Either: all pieces have come, or there will be no more; before an answer: there is none."""

    is_broken: bool = False


FromFront = Ask | Unreadable | Gone | Beat
FromEngine = Answered | Invite | Drain
Message = FromFront | FromEngine | More | Taken | End

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[Message]] = msgspec.msgpack.Decoder(list[Message])


class Parcel:
    """Messages that wait to be sent together."""

    def __init__(self) -> None:
        self._buffer = bytearray(_HEAD_BYTES)
        self._count = 0

    def __len__(self) -> int:
        """In bytes."""
        return len(self._buffer) if self._count else 0

    def add(self, message: Message) -> None:
        """Adds one. Raises ValueError where it holds text that is no UTF-8; then it was not."""
        size = len(self._buffer)
        try:
            _encoder.encode_into(message, self._buffer, -1)
        except BaseException:
            del self._buffer[size:]
            raise
        self._count += 1

    def take(self) -> bytearray:
        """All of them as they are sent; it is empty then."""
        buffer, self._buffer = self._buffer, bytearray(_HEAD_BYTES)
        length, count = len(buffer) - _LENGTH_BYTES, self._count
        buffer[:_HEAD_BYTES] = length.to_bytes(4, "big") + _ARRAY + count.to_bytes(4, "big")
        self._count = 0
        return buffer


def decode(frame: bytes) -> list[Message]:
    """A parcel's messages, from what follows its length. Raises ProtocolError."""
    try:
        return _decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"no messages: {error}") from error
