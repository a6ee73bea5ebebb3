"""Structured logs: an event is one line, JSON or text, written by a thread of its own.

Decision: a caller renders its line and appends it to a bounded deque; a thread writes what has
gathered, every 20 ms while lines come. Only the first one after a second without any wakes it, so
that who answers requests rarely does. So a line costs a few microseconds, and a stuck pipe never
holds up the event loop: past the bound lines are dropped, and counted in a line that says so.
Rejected: structlog's own loggers, which write and flush under a lock for each line.
No line can be forged: JSON escapes what clients sent, text quotes all that is not plain.
Rooms call `structlog.get_logger()`; who writes a line a request asks for `info_writer()` first.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import re
import sys
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from functools import partial
from threading import Event, Lock, Thread
from typing import Any, BinaryIO, Final

import msgspec
import structlog

from mme.config import LogConfig

REQUEST: Final = "request"
INTERNAL_ERROR: Final = "internal_error"
SERVING: Final = "serving"
DRAINING: Final = "draining"
STOPPED: Final = "stopped"
LIBRARY: Final = "library"
RELOADED: Final = "reloaded"
RELOAD_FAILED: Final = "reload_failed"
LINES_LOST: Final = "lines_lost"

_LINES_LIMIT = 20_000
_GATHER_SECONDS = 0.02
_AWAKE_LOOKS = 50  # at nothing, before the thread sleeps until it is woken
_CLOSE_SECONDS = 5.0
_PLAIN = re.compile(r"[\w.:/+@*-]+", re.ASCII)

_Event = MutableMapping[str, Any]  # structlog's own type for an event's fields
_Render = Callable[[dict[str, Any]], bytes]


class LineWriter:
    """Takes lines from any thread and writes them to one stream, in order."""

    def __init__(self, stream: BinaryIO, lines_limit: int = _LINES_LIMIT) -> None:
        self._stream = stream
        self._limit = lines_limit
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._gathered, self._closing = Event(), Event()
        self._writing = Lock()  # between the thread and what is logged after close()
        self._thread = Thread(target=self._run, name="mme-logs", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Hands over one line, without its line break. Never waits."""
        if len(self._lines) >= self._limit:
            self._lost += 1
            return
        self._lines.append(line)
        if self._closing.is_set():
            self._write_all()
        elif not self._gathered.is_set():
            self._gathered.set()

    def close(self) -> None:
        """Writes what is left, for five seconds at most; who logs later writes at once."""
        self._closing.set()
        self._gathered.set()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._gathered.wait()
            left = _AWAKE_LOOKS
            while left and not self._closing.wait(_GATHER_SECONDS):
                left = _AWAKE_LOOKS if self._write_all() else left - 1
            self._gathered.clear()  # before reading: a line that comes now sets it again
            self._write_all()
        self._write_all()

    def _write_all(self) -> bool:
        """Whether there was anything to write."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if self._lost:
                lost, self._lost = self._lost, 0
                notice = {"time": _now(), "level": "warning", "event": LINES_LOST, "lines": lost}
                lines.append(_json(notice))
            if lines:
                # A stream that is gone: there is nobody left to tell.
                with contextlib.suppress(OSError, ValueError):
                    self._stream.write(b"\n".join(lines) + b"\n")
                    self._stream.flush()
        return bool(lines)


class _Library(logging.Handler):
    """Brings what libraries log by `logging` into the same stream."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        fields = {"logger": record.name, "message": record.getMessage()}
        structlog.get_logger().log(level, LIBRARY, exc_info=record.exc_info, **fields)


_writer: LineWriter | None = None
_info_writer: Callable[[str, dict[str, Any]], None] | None = None


def configure(config: LogConfig, stream: BinaryIO | None = None) -> None:
    """Sets up structlog and `logging` for this process; called once, before anything is logged.

    Args:
        config: level and format.
        stream: where lines go; standard error when None.
    """
    global _writer, _info_writer  # noqa: PLW0603 - a process has one log
    close()
    target = sys.stderr.buffer if stream is None else stream
    text = config.log_format == "text" or (config.log_format == "auto" and target.isatty())
    _writer = LineWriter(target)
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    shown = not text and level <= logging.INFO
    _info_writer = partial(_write_info, _writer.write) if shown else None
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _Renderer(_text if text else _json)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_LineLogger,
        cache_logger_on_first_use=False,  # a cached one outlives this; who logs often binds one
    )
    # Never a library's debug lines: those of the S3 client hold credentials' signatures.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_Library()], force=True)
    logging.captureWarnings(capture=True)


def info_writer() -> Callable[[str, dict[str, Any]], None] | None:
    """What writes an event of level info and its fields as structlog would, at half the price.

    None where that is not all there is to it: no `configure` yet, another level, lines of text.
    """
    return _info_writer


def close() -> None:
    """Writes everything logged so far; called at exit too."""
    if _writer is not None:
        _writer.close()


atexit.register(close)


class _LineLogger:
    """What structlog calls with the rendered line, by the name of its level."""

    def __init__(self, *_names: Any) -> None:  # noqa: ANN401 - structlog passes get_logger's arguments on
        write = _writer.write if _writer is not None else sys.stderr.buffer.write
        self.debug = self.info = self.warning = self.error = self.critical = write


class _Renderer:
    """The last processor: an event's fields -> the line, time, level and event first."""

    def __init__(self, render: _Render) -> None:
        self._render = render

    def __call__(self, _logger: object, level: str, fields: _Event) -> bytes:
        event = fields.pop("event", "")
        return self._render({"time": _now(), "level": level, "event": event, **fields})


def _write_info(write: Callable[[bytes], None], event: str, fields: dict[str, Any]) -> None:
    write(_json({"time": _now(), "level": "info", "event": event, **fields}))


_encoder = msgspec.json.Encoder(enc_hook=repr)


def _json(fields: dict[str, Any]) -> bytes:
    try:
        line = _encoder.encode(fields)
        if line.isascii():
            return line
    except UnicodeEncodeError:
        pass  # of lone surrogates: bytes that were no UTF-8
    # Slower, and all in ASCII: Unicode has line breaks of its own, which some readers split at.
    return json.dumps(fields, default=repr).encode()


def _text(fields: dict[str, Any]) -> bytes:
    moment, level, event = fields.pop("time"), fields.pop("level"), fields.pop("event")
    trace = fields.pop("exception", "")
    head = [f"{moment} {level:<7} {_shown(event)}"]
    head += [f"{name}={_shown(value)}" for name, value in fields.items()]
    # A traceback ends in a message that may quote a client: none of its lines may look like ours.
    indented = [f"\n    | {line}" for line in str(trace).splitlines()]
    return "".join((" ".join(head), *indented)).encode("utf-8", "backslashreplace")


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else repr(value)
    return text if _PLAIN.fullmatch(text) else ascii(text)


_second = (0, "")


def _now() -> str:
    global _second  # noqa: PLW0603 - the same text for a whole second; a lost update costs nothing
    moment = time.time()
    whole = int(moment)
    if _second[0] != whole:
        _second = (whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)))
    return f"{_second[1]}.{int((moment - whole) * 1e6):06d}Z"
