"""For how long a thread has wanted a core: had one, or waited for one that others had."""

from __future__ import annotations

import os
import time

_SCHEDULED = "/proc/thread-self/schedstat"  # nanoseconds: on a core, waiting for one
_BOOK_BYTES = 128  # more than its three numbers


def wanted_seconds() -> float:
    """Of the thread that asks, since it began; without the waiting where the kernel has no book."""
    try:
        running, waiting, _ = _book().split()
    except (OSError, ValueError):
        return time.thread_time()
    return (int(running) + int(waiting)) / 1e9


def _book() -> bytes:
    """Read in three system calls: a file object takes nine, between a request and its answer."""
    descriptor = os.open(_SCHEDULED, os.O_RDONLY)
    try:
        return os.read(descriptor, _BOOK_BYTES)
    finally:
        os.close(descriptor)
