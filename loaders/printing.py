"""What a model prints while its code runs goes to a sink, line by line: it is told whose it is.

Decisions: by thread, so that a model that loads and one that predicts are told apart; what threads
of the model's own, its child processes and `sys.stdout.buffer` write goes where it always went.
Bounded by count, with no clock: so many lines a call, each cut, and one line at the end that says
how many were left out. Of a line that overwrites itself (a progress bar) the last state is kept.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, TextIO, cast

LINES_LIMIT = 200
LINE_LIMIT_CHARACTERS = 2_000
Sink = Callable[[str], None]


def speaking(sink: Sink) -> AbstractContextManager[None]:
    """Sends what this thread writes to `sys.stdout` and `sys.stderr` to `sink`, until it ends.

    Args:
        sink: called in this thread with one line at a time, without its end; what it writes itself
            goes to the real streams, what it raises to whoever prints.
    """
    return _Speech(sink)


class _Speech:
    """One call's lines; around every prediction, so that it costs next to nothing in silence."""

    __slots__ = ("_before", "_lines", "_partial", "_sink")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._partial: dict[str, str] = {}  # by stream
        self._lines = 0
        self._before: _Speech | None = None

    def __enter__(self) -> None:
        if type(sys.stdout) is not _Stream or type(sys.stderr) is not _Stream:
            _listen()
        self._before = getattr(_here, "speech", None)
        _here.speech = self

    def __exit__(self, *_: object) -> None:
        _here.speech = self._before
        if self._lines or self._partial:
            self._end()

    def hear(self, stream: str, text: str) -> None:
        """Takes what was written, passes on the lines it completes."""
        *lines, partial = (self._partial.get(stream, "") + text).split("\n")
        self._partial[stream] = partial if len(partial) < LINE_LIMIT_CHARACTERS else _shown(partial)
        for line in lines:
            self._say(line)

    def _end(self) -> None:
        for partial in filter(None, self._partial.values()):
            self._say(partial)
        if self._lines > LINES_LIMIT:
            self._sink(f"({self._lines - LINES_LIMIT} more lines were left out)")

    def _say(self, line: str) -> None:
        shown = _shown(line)
        if not shown.strip():
            return
        self._lines += 1
        if self._lines > LINES_LIMIT:
            return
        before, _here.speech = _here.speech, None
        try:
            self._sink(shown)
        finally:
            _here.speech = before


class _Stream:
    """Stands in for a standard stream: the thread that speaks is heard, all others write."""

    def __init__(self, name: str, real: TextIO) -> None:
        self._name = name
        self._real = real

    def write(self, text: str) -> int:
        speech: _Speech | None = getattr(_here, "speech", None)
        if speech is None:
            return self._real.write(text)
        speech.hear(self._name, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the real stream has
        return getattr(self._real, name)


_here = threading.local()


def _listen() -> None:
    """Puts the stand-ins in place, wherever something else is."""
    for name in ("stdout", "stderr"):
        real = getattr(sys, name)
        if not isinstance(real, _Stream):
            setattr(sys, name, cast("TextIO", _Stream(name, real)))


def _shown(line: str) -> str:
    last = line.rstrip("\r").rpartition("\r")[2][:LINE_LIMIT_CHARACTERS]
    return last.encode(errors="replace").decode()  # half a surrogate can't be sent anywhere
