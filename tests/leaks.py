"""What a test may leave behind: no process, thread, file descriptor or temporary file."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
import time
from pathlib import Path

import psutil

from mme.threads import PoolThread

SESSION_CHILDREN: set[int] = set()
SESSION_DESCRIPTORS: set[int] = set()
"""Servers that live as long as the run, and pipes to them; a session fixture adds its own here."""

_PATIENCE_SECONDS = 2.0
_OPENED_BY_TESTS = ("socket:", "pipe:", "anon_inode:", "/memfd:")


class Leaks:
    """Compares the process with what it was when this was made."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._descriptors = set(_descriptors())
        self._threads = set(threading.enumerate())

    def assert_none(self) -> None:
        """Gives what is on its way out a moment, then fails naming what stayed."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while found := self._found():
            if time.monotonic() > deadline:
                _end_children()
                raise AssertionError(f"left behind: {'; '.join(found)}")
            gc.collect()
            time.sleep(0.02)

    def _found(self) -> list[str]:
        threads = [
            f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread not in self._threads and (not thread.daemon or isinstance(thread, PoolThread))
        ]
        descriptors = [
            f"descriptor {number} to {target}"
            for number, target in set(_descriptors()) - self._descriptors
            if number not in SESSION_DESCRIPTORS
        ]
        files = [f"temporary {path.name}" for path in self._scratch.iterdir()]
        return [*map(str, _children()), *threads, *descriptors, *files]


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.pid not in SESSION_CHILDREN]


def _end_children() -> None:
    for child in _children():
        child.kill()
        child.wait()


def _descriptors() -> list[tuple[int, str]]:
    """Those that a test may have opened: not what libraries keep, such as /dev/urandom."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is needed
        try:
            target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - may not be a path
        except OSError:  # the directory's own
            continue
        if target.startswith((*_OPENED_BY_TESTS, tempfile.gettempdir())):
            found.append((int(name), target))
    return found
