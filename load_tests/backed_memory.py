"""Memory that the machine really has, for what takes much of it while it is timed.

A virtual machine may hand its free memory back to its host, and waits for each page of it that is
used again: 7 us here, so that 50 MB, written to files and read into a worker, took up to 0.2 s more
than on a machine that keeps what it has. Who is timed next would pay for that, whoever it is. Only
free stretches of 2 MiB and more are handed back (Linux: free page reporting), so what is freed here
is less at a time, and what lies between is held.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psutil

_STRETCH_BYTES = 1024**2


@contextmanager
def backed_memory(size_bytes: int) -> Iterator[None]:
    """While entered, so much of the free memory is the machine's own; as much again is held.

    At most an eighth of what is available.
    """
    size_bytes = min(size_bytes, psutil.virtual_memory().available // 8)
    both_bytes = -(-size_bytes // _STRETCH_BYTES) * 2 * _STRETCH_BYTES
    with closing(mmap.mmap(-1, both_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)) as held:
        with suppress(OSError):  # a kernel that has none
            held.madvise(mmap.MADV_NOHUGEPAGE)  # which would be freed whole, or not at all
        for start in range(0, both_bytes, mmap.PAGESIZE):
            held[start] = 1
        for start in range(0, both_bytes, 2 * _STRETCH_BYTES):
            held.madvise(mmap.MADV_DONTNEED, start, _STRETCH_BYTES)
        yield
