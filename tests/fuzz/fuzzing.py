"""One target under bytes that are bent at random, those kept that reach new lines of our code.

Decision: coverage by `sys.settrace` of the parsers' own files, which takes no compiler; atheris
has no release for every Python that we support, and sees no more of Python.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

LONGEST_BYTES = 64 * 1024
HUNG_SECONDS = 20
CORPUS = Path(__file__).parent / "corpus"
_RECORD_BYTES, _AT_RECORDS = 512, 0.25  # tar's, in which a name is at the beginning
_OURS = ("/mme/", "/loaders/")
_TELLING = (
    b"\0", b"\xff", b"\n", b"\r\n", b"\n\n", b":", b",", b'"', b"{", b"[", b"[" * 500, b"-",
    b"..", b"../", b"/", b"%2e", b"nan", b"1e999", b"9" * 400, b"-1", b"\xed\xb0\x80",
    b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff" * 8,
)  # fmt: skip


class Found(Exception):
    """A target raised, or hung, on these bytes, which are its only argument."""


def corpus_of(name: str) -> list[bytes]:
    """What is known of a target: sound inputs, and what once failed."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def fuzz(
    check: Callable[[bytes], None], corpus: Sequence[bytes], seconds: float, seed: int
) -> tuple[int, int]:
    """Runs the corpus, and then what comes of it.

    Returns:
        The number of inputs, and of those that reached something new.

    Raises:
        Found: from what the target raised.
    """
    draw, kept, seen = random.Random(seed), list(corpus), set[object]()
    until, runs = time.monotonic() + seconds, 0
    for data in corpus:
        _reached(check, data, seen)
    while time.monotonic() < until:
        data = bend(draw, kept)
        runs += 1
        if _reached(check, data, seen):
            kept.append(data)
    return runs, len(kept) - len(corpus)


def bend(draw: random.Random, corpus: Sequence[bytes]) -> bytes:
    """One of them with a few changes."""
    data = draw.choice(corpus) if corpus else b""
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        begin, end = sorted(_place(draw, len(data)) for _ in range(2))
        match draw.randrange(6):
            case 0:  # cut out, at most a little
                data = data[:begin] + data[min(end, begin + draw.choice((1, 8, 1000))) :]
            case 1:  # twice
                data = data[:end] + data[begin:end][:4096] + data[end:]
            case 2:
                data = data[:begin] + draw.choice(_TELLING) + data[begin:]
            case 3:  # over what is there
                telling = draw.choice(_TELLING)
                data = data[:begin] + telling + data[begin + len(telling) :]
            case 4:
                data = data[:begin] + draw.randbytes(1) + data[begin + 1 :]
            case _:  # the end of another
                data = data[:begin] + draw.choice(corpus or [b""])[begin:]
    return data[:LONGEST_BYTES]


def _place(draw: random.Random, size: int) -> int:
    """Anywhere, and now and then where a record begins."""
    place = draw.randint(0, size)
    return place // _RECORD_BYTES * _RECORD_BYTES if draw.random() < _AT_RECORDS else place


def _reached(check: Callable[[bytes], None], data: bytes, seen: set[object]) -> bool:
    """Whether a run of our code from line to line was new."""
    before = len(seen)
    try:
        with _timed(), _traced(seen):
            check(data)
    except Exception as error:
        raise Found(data) from error
    return len(seen) > before


@contextmanager
def _timed() -> Iterator[None]:
    def hung(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"took more than {HUNG_SECONDS} seconds")

    signal.signal(signal.SIGALRM, hung)
    signal.alarm(HUNG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


@contextmanager
def _traced(seen: set[object]) -> Iterator[None]:
    def enter(frame: FrameType, _event: str, _arg: object) -> Any:
        code = frame.f_code
        if not any(room in code.co_filename for room in _OURS):
            return None
        last = 0

        def line(frame: FrameType, event: str, _arg: object) -> Any:
            nonlocal last
            if event == "line":
                seen.add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line

    threading.settrace(enter)  # of those that it starts
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)
