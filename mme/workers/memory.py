"""What this process holds in memory, and giving it back (Linux, glibc).

A load is charged the growth of private anonymous memory or of what malloc has handed out, whichever
is more: the first misses what lands in a heap that earlier models left, the second misses what does
not come from malloc. Files of the model that stay mapped are page cache: the kernel drops them when
it must, so they are told apart and charged to nobody as private memory.
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
_libc.malloc.restype = ctypes.c_void_p
_trim = getattr(_libc, "malloc_trim", None)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt's
_MAPPED_BYTES = 4 * 1024**2  # below it, what predictions need for a moment comes from the heap
_KEPT_BYTES = 64 * 1024**2  # at a heap's end, while nobody asks for it back
_LOOKED_AT_BYTES = 96 * 1024  # more than 64 KiB
_GARBAGE_RATIO = 1.25
_GARBAGE_BYTES = 64 * 1024
_YOUNG, _ALL = 1, 2  # generations of the garbage collector
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


@dataclass(frozen=True, slots=True)
class Resident:
    """What of this process is in memory, in bytes."""

    all_bytes: int
    file_bytes: int  # mapped files and code, shared or not
    address_bytes: int  # mapped at all, in memory or not
    peak_bytes: int  # of all, since the kernel was last told to forget it


def growth(before: MemoryUse) -> int:
    """Bytes that this process has taken for good since `before`.

    Where far more has become private than malloc has handed out, loading left garbage in the heap;
    that is given back first, for it would be charged to the model for as long as it lives.
    """
    after = measure()
    allocated_bytes = max(0, after.allocated_bytes - before.allocated_bytes)
    if after.grown_since(before) > _GARBAGE_RATIO * allocated_bytes + _GARBAGE_BYTES:
        give_back(_YOUNG)  # the old are many, and were looked at when a model last left
        after = measure()
    return after.grown_since(before)


def measure() -> MemoryUse:
    """Measures this process now; some tens of microseconds."""
    allocated = 0
    if _mallinfo is not None:
        info = _mallinfo()
        allocated = info.uordblks + info.hblkhd
    return MemoryUse(private_bytes=private_bytes(), allocated_bytes=allocated)


def private_bytes() -> int:
    """Anonymous memory of this process."""
    anonymous = _status_bytes().get("RssAnon")
    if anonymous is None:
        return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
    return anonymous


def resident() -> Resident:
    """What the kernel counts as resident now."""
    sizes = _status_bytes()
    return Resident(
        all_bytes=sizes["VmRSS"],
        file_bytes=sizes.get("RssFile", 0),
        address_bytes=sizes["VmSize"],
        peak_bytes=sizes["VmHWM"],
    )


def mapped_bytes(directory: Path) -> int:
    """How much of the files below `directory` is mapped here; some milliseconds."""
    inside, total = f" {directory.resolve()}/", 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if inside in line:
            start, _, end = line.split(maxsplit=1)[0].partition("-")
            total += int(end, 16) - int(start, 16)
    return total


def give_back(generation: int = _ALL) -> None:
    """Collects garbage and trims the heap; without the trim glibc keeps all of it."""
    gc.collect(generation)
    if _trim is not None:
        _trim_this_arena()
        _trim(0)


def keep_heaps_small() -> None:
    """Large blocks come from the system, and go back to it when they are freed.

    Left alone, glibc raises the size from which they do to whatever was freed last, up to 32 MB, so
    that one model's weights come to lie in the heap between those of others.
    """
    if _trim is not None:
        _libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        _libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _trim_this_arena() -> None:
    """Gives back the end of this thread's heap, which `malloc_trim` does for the first heap only.

    The end is looked at when a block of some size is freed there.
    """
    _libc.mallopt(_M_TRIM_THRESHOLD, 0)
    _libc.free(ctypes.c_void_p(_libc.malloc(ctypes.c_size_t(_LOOKED_AT_BYTES))))
    _libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def die_with_parent() -> None:
    """Asks the kernel to kill this process when the server's thread that started it ends."""
    pr_set_pdeathsig, sigkill = 1, 9
    _libc.prctl(pr_set_pdeathsig, sigkill, 0, 0, 0)


def _status_bytes() -> dict[str, int]:
    """The sizes in /proc/self/status by name."""
    pairs = (line.split(":") for line in _STATUS.read_text().splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}
