"""What a container that we started prints: its lines into our log, so many and so long at most.

Decision: lines over the rate are dropped and counted, and the pipe is read slowly for a moment, so
that a container that prints without end waits for us and not the other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, cast

import structlog

CONTAINER_OUTPUT: Final = "container_output"
OUTPUT_LOST: Final = "container_output_lost"
_LINE_BYTES: Final = 2_000
_LINES_PER_SECOND: Final = 200.0
_LINES_AT_ONCE: Final = 1_000.0
_REST_SECONDS: Final = 0.05


class Lines:
    """Bytes -> lines, each cut at `limit_bytes`."""

    def __init__(self, limit_bytes: int = _LINE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._begun = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that `data` ends."""
        *ended, begun = data.split(b"\n")
        for line in ended:
            yield self._text(self._begun + line)
            self._begun = b""
        self._begun = (self._begun + begun)[: self._limit_bytes + 1]

    def rest(self) -> Iterator[str]:
        """A last line without its end."""
        if self._begun:
            yield self._text(self._begun)
        self._begun = b""

    def _text(self, line: bytes) -> str:
        cut = "..." if len(line) > self._limit_bytes else ""
        return line[: self._limit_bytes].decode(errors="replace").rstrip("\r") + cut


class Output(asyncio.Protocol):
    """Reads a container's pipe until it is closed."""

    def __init__(self, container: str) -> None:
        self._log = structlog.get_logger().bind(container=container)
        self._loop = asyncio.get_running_loop()
        self._lines = Lines()
        self._allowed = _LINES_AT_ONCE
        self._allowed_at = self._loop.time()
        self._lost_lines = 0
        self._rest: asyncio.TimerHandle | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is there."""
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Something was printed."""
        self._allow()
        for line in self._lines.feed(data):
            self._print(line)
        if self._lost_lines:
            self._transport.pause_reading()
            self._rest = self._loop.call_later(_REST_SECONDS, self._read_on)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will be."""
        if self._rest is not None:
            self._rest.cancel()
        self._allowed += 1  # what it said last often says why it ended
        self._tell_lost()
        for line in self._lines.rest():
            self._print(line)
        self.closed.set()

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _allow(self) -> None:
        now = self._loop.time()
        gained = (now - self._allowed_at) * _LINES_PER_SECOND
        self._allowed, self._allowed_at = min(self._allowed + gained, _LINES_AT_ONCE), now
        if self._allowed >= 1:
            self._tell_lost()

    def _print(self, line: str) -> None:
        if self._allowed < 1:
            self._lost_lines += 1
            return
        self._allowed -= 1
        self._log.info(CONTAINER_OUTPUT, line=line)

    def _tell_lost(self) -> None:
        if self._lost_lines:
            self._log.warning(OUTPUT_LOST, lines=self._lost_lines)
            self._lost_lines = 0
