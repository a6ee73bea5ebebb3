"""What this process holds in memory, and giving it back (Linux, glibc).

A load is charged the growth of private anonymous memory or of what malloc has handed out, whichever
is more: the first misses what lands in a heap that earlier models left, the second misses what does
not come from malloc.
"""

from __future__ import annotations

import ctypes
import gc
import os
from dataclasses import dataclass
from pathlib import Path


class _MallInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


_libc = ctypes.CDLL(None)
_mallinfo = getattr(_libc, "mallinfo2", None)  # glibc 2.33 or later
if _mallinfo is not None:
    _mallinfo.restype = _MallInfo
_trim = getattr(_libc, "malloc_trim", None)
_GARBAGE_RATIO = 1.25
_GARBAGE_BYTES = 64 * 1024
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """A moment's measurement, in bytes."""

    private_bytes: int  # anonymous memory of this process
    allocated_bytes: int  # handed out by malloc and not freed

    def grown_since(self, before: MemoryUse) -> int:
        """Bytes taken since `before`; never negative."""
        return max(
            self.private_bytes - before.private_bytes,
            self.allocated_bytes - before.allocated_bytes,
            0,
        )


def growth(before: MemoryUse) -> int:
    """Bytes that this process has taken for good since `before`.

    Where far more has become private than malloc has handed out, loading left garbage in the heap;
    that is given back first, for it would be charged to the model for as long as it lives.
    """
    after = measure()
    allocated_bytes = max(0, after.allocated_bytes - before.allocated_bytes)
    if after.grown_since(before) > _GARBAGE_RATIO * allocated_bytes + _GARBAGE_BYTES:
        give_back()
        after = measure()
    return after.grown_since(before)


def measure() -> MemoryUse:
    """Measures this process now; some tens of microseconds."""
    allocated = 0
    if _mallinfo is not None:
        info = _mallinfo()
        allocated = info.uordblks + info.hblkhd
    return MemoryUse(private_bytes=_private_bytes(), allocated_bytes=allocated)


def give_back() -> None:
    """Collects garbage and trims the heap; without the trim glibc keeps all of it."""
    gc.collect()
    if _trim is not None:
        _trim(0)


def die_with_parent() -> None:
    """Asks the kernel to kill this process when the server's thread that started it ends."""
    pr_set_pdeathsig, sigkill = 1, 9
    _libc.prctl(pr_set_pdeathsig, sigkill, 0, 0, 0)


def _private_bytes() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
