"""What the server's own process holds: figures that grow when something is never let go."""

from __future__ import annotations

import asyncio
import os
import threading


def describe_process() -> dict[str, object]:
    """Tasks of the running loop, threads and descriptors, for `/state`."""
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "descriptors": _descriptors(),
    }


def _descriptors() -> int | None:
    """None where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - less the one it is read by
    except OSError:
        return None
