"""For how long a thread has wanted a core: had one, or waited for one that others had."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDULED = Path("/proc/thread-self/schedstat")  # nanoseconds: on a core, waiting for one


def wanted_seconds() -> float:
    """Of the thread that asks, since it began; without the waiting where the kernel has no book."""
    try:
        running, waiting, _ = _SCHEDULED.read_bytes().split()
    except (OSError, ValueError):
        return time.thread_time()
    return (int(running) + int(waiting)) / 1e9
