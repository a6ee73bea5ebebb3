"""What a process that we started writes to its standard output and error: lines of our log.

Decision: it gets a pipe and never our own log, which it could empty, or write lines into that look
like ours. The pipe is read every few milliseconds, so that who writes without end waits for us and
not the other way round; lines over the rate are dropped and counted, unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from typing import Final, Self, cast

import structlog

_LINE_BYTES: Final = 2_000
_LINES_PER_SECOND: Final = 200.0
_LINES_AT_ONCE: Final = 1_000.0
_REST_SECONDS: Final = 0.02  # a pipe holds 64 KB, so 3 MB a second are read
_LINGER_SECONDS: Final = 1.0


class Lines:
    """Bytes -> lines, each cut at `limit_bytes`."""

    def __init__(self, limit_bytes: int = _LINE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._begun = b""

    def feed(self, data: bytes, most: int) -> tuple[list[str], int]:
        """The lines that `data` ends, `most` of them at most; and how many more those are."""
        *ended, begun = data.split(b"\n", most)
        lines = []
        for line in ended:
            lines.append(self._text(self._begun + line))
            self._begun = b""
        more = begun.count(b"\n")
        if more:
            self._begun, begun = b"", begun[begun.rfind(b"\n") + 1 :]
        self._begun = (self._begun + begun)[: self._limit_bytes + 1]
        return lines, more

    def rest(self) -> list[str]:
        """A last line without its end, if there is one."""
        begun, self._begun = self._begun, b""
        return [self._text(begun)] if begun else []

    def _text(self, line: bytes) -> str:
        cut = "..." if len(line) > self._limit_bytes else ""
        return line[: self._limit_bytes].decode(errors="replace").rstrip("\r") + cut


class Output(asyncio.Protocol):
    """Reads one process's pipe until nobody writes to it any more. Made by `piped`.

    Args:
        event: what its lines are called in the log; those left out are told as `EVENT_lost`.
        level: of these events, as `logging` has it.
        fields: of these events, to say whose lines they are.
    """

    def __init__(self, event: str, level: int, **fields: object) -> None:
        self._event, self._level = event, level
        self._log = structlog.get_logger().bind(**fields)
        self._loop = asyncio.get_running_loop()
        self._lines = Lines()
        self._allowed = _LINES_AT_ONCE
        self._allowed_at = self._loop.time()
        self._lost_lines = 0
        self.last_line = ""
        self._rest: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def piped(
        cls, event: str, level: int = logging.INFO, **fields: object
    ) -> AsyncIterator[tuple[Self, int]]:
        """What reads, and the descriptor for a process to write to, closed here at the end.

        Raises:
            OSError: there is no pipe to be had.
        """
        reading, writing = os.pipe()
        try:
            _, output = await asyncio.get_running_loop().connect_read_pipe(
                lambda: cls(event, level, **fields), os.fdopen(reading, "rb")
            )
            yield output, writing
        finally:
            os.close(writing)

    async def finish(self) -> None:
        """Reads what an ended process left; who has its pipe in hand does not keep us."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._closed.wait()
        self._transport.close()
        await self._closed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is there."""
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Something was written."""
        self._allow()
        lines, more = self._lines.feed(data, int(self._allowed))
        self._allowed -= len(lines)
        self._lost_lines += more
        self._tell(lines)
        self._transport.pause_reading()
        self._rest = self._loop.call_later(_REST_SECONDS, self._read_on)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will be."""
        if self._rest is not None:
            self._rest.cancel()
        self._tell_lost()
        self._tell(self._lines.rest())  # what it said last often says why it ended
        self._closed.set()

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _allow(self) -> None:
        now = self._loop.time()
        gained = (now - self._allowed_at) * _LINES_PER_SECOND
        self._allowed, self._allowed_at = min(self._allowed + gained, _LINES_AT_ONCE), now
        if self._allowed >= 1:
            self._tell_lost()

    def _tell(self, lines: list[str]) -> None:
        for line in lines:
            self.last_line = line
            self._log.log(self._level, self._event, line=line)

    def _tell_lost(self) -> None:
        if self._lost_lines:
            self._log.warning(f"{self._event}_lost", lines=self._lost_lines)
            self._lost_lines = 0
