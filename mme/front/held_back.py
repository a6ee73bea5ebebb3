"""A head whose small body is on its way: many clients send the two one after the other.

Decision: held back until both are here, but not for long, so that such requests need no stream for
their bodies either, and what comes whole and what does not are one thing. Who sends slowly is read
as it comes, and has the body's own time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_HEAD_END = b"\r\n\r\n"
_LENGTHS = b"\r\nContent-Length: ", b"\r\ncontent-length: "
_EXPECT = b"xpect: "  # it waits for us before it sends the body
_LIMIT_BYTES = 1 << 16  # of head and body
_LIMIT_DIGITS = 5
_SECONDS = 0.05


class HeldBack:
    """What one connection holds back.

    Args:
        loop: the connection's.
        give_up: called with what came, where the rest does not come soon.
    """

    __slots__ = ("_data", "_give_up", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, give_up: Callable[[bytes], None]) -> None:
        self._loop, self._give_up = loop, give_up
        self._data = b""
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return self._timer is not None

    def joined(self, data: bytes) -> bytes:
        """What is held back, and what comes after it."""
        return self._data + data if self._data else data

    def hold(self, data: bytes) -> bool:
        """Holds `data` back, if that is a head and a part of its body; else nothing any more.

        Who sends more of it gets no more time by that.
        """
        if not is_without_body(data):
            self.take()
            return False
        self._data = data
        if self._timer is None:
            self._timer = self._loop.call_later(_SECONDS, self._expire)
        return True

    def take(self) -> bytes:
        """What was held back, and is not any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        data, self._data = self._data, b""
        return data

    def _expire(self) -> None:
        self._give_up(self.take())


def is_without_body(data: bytes) -> bool:
    """Whether this is one request's head and a part of its small body; the parser may differ."""
    start = data.find(_HEAD_END) + len(_HEAD_END)
    if start < len(_HEAD_END) or data.find(_EXPECT, 0, start) >= 0:
        return False
    for name in _LENGTHS:
        if (at := data.find(name, 0, start)) >= 0:
            at += len(name)
            digits = data[at : data.find(b"\r", at)]
            if not digits.isdigit() or len(digits) > _LIMIT_DIGITS:
                return False
            return len(data) < start + int(digits) <= _LIMIT_BYTES
    return False
