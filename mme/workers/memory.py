"""What this process holds in memory, and giving it back (Linux, glibc).

A load is charged the growth of what malloc has handed out: private memory grows by less where the
model fills what earlier ones left, by more where garbage lies between, and counts only where more
was mapped than malloc's heaps have grown by. What malloc keeps at hand for a thread (its tcache)
passes for handed out: models are dropped in passing threads, or the next would fill what they left
there and be charged too little; but for those that hold no blocks small enough for that. Files of
the model that stay mapped are page cache: the kernel drops them when it must, so they are told
apart and charged to nobody as private memory.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
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
_quick = ctypes.PyDLL(None)  # keeps the interpreter: to get it back takes longer than the call
_mallinfo = getattr(_quick, "mallinfo2", None)  # glibc 2.33 or later
if _mallinfo is not None:
    _mallinfo.restype = _MallInfo
_quick.malloc.restype = ctypes.c_void_p
_trim = getattr(_libc, "malloc_trim", None)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt's
_MAPPED_BYTES = 4 * 1024**2  # below it, what predictions need for a moment comes from the heap
_KEPT_BYTES = 64 * 1024**2  # at a heap's end, while nobody asks for it back
_LOOKED_AT_BYTES = 96 * 1024  # more than 64 KiB
_MAPPED_ELSE_BYTES = 64 * 1024  # less is no other allocator's
_GARBAGE_RATIO = 1.25
_GARBAGE_BYTES = 64 * 1024
OBJECTS_BYTES = 4 * 1024  # of a model: in Python's own pools, of which malloc does not tell
YOUNG, ALL = 1, 2  # generations of the garbage collector
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC_BYTES = 4096
_PASSING_SECONDS, _LOOK_SECONDS = 0.1, 0.00005
_PEAK, _SHARED = (re.compile(name + rb":\s*(\d+) kB") for name in (b"VmHWM", b"RssShmem"))
# Kept open: a load looks several times, and each call that lets go of the interpreter may wait for
# a prediction before it has it back.
_statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
_status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """A moment's measurement, in bytes."""

    all_bytes: int  # in memory
    file_bytes: int  # of these, mapped files and code
    address_bytes: int  # mapped at all, in memory or not
    allocated_bytes: int  # handed out by malloc and not freed
    heap_bytes: int  # that malloc has of the system, in memory or not

    @property
    def private_bytes(self) -> int:
        """What is no file's."""
        return self.all_bytes - self.file_bytes

    def grown_since(self, before: MemoryUse) -> int:
        """Bytes taken since `before`; never negative."""
        allocated_bytes = max(0, self.allocated_bytes - before.allocated_bytes)
        mapped_bytes = self.address_bytes - before.address_bytes
        if _mallinfo and mapped_bytes - (self.heap_bytes - before.heap_bytes) < _MAPPED_ELSE_BYTES:
            return allocated_bytes
        return max(self.private_bytes - before.private_bytes, allocated_bytes)


NO_MALLOC = MemoryUse(all_bytes=0, file_bytes=0, address_bytes=0, allocated_bytes=0, heap_bytes=0)
"""For `measure`, where malloc's figures are not wanted."""


def measure_without_garbage(before: MemoryUse) -> MemoryUse:
    """Measures what is left of all that was taken since `before`.

    Where far more has become private than malloc has handed out, loading left garbage in the heap;
    that is given back first, for it would be charged to the model for as long as it lives.
    """
    after = measure()
    allocated_bytes = max(0, after.allocated_bytes - before.allocated_bytes)
    private_bytes = after.private_bytes - before.private_bytes
    if private_bytes > _GARBAGE_RATIO * allocated_bytes + _GARBAGE_BYTES:
        garbage = give_back(YOUNG)  # the old are many, and were looked at when a model last left
        after = measure(None if garbage else after)
    return after


def measure(known: MemoryUse | None = None) -> MemoryUse:
    """Measures this process now.

    Args:
        known: whose figures of malloc still hold; malloc looks at every hole in its heaps for them,
            which in old ones takes longer than all the rest.
    """
    if known is None:
        info = _mallinfo() if _mallinfo is not None else _MallInfo()
        allocated_bytes, heap_bytes = info.uordblks + info.hblkhd, info.arena + info.hblkhd
    else:
        allocated_bytes, heap_bytes = known.allocated_bytes, known.heap_bytes
    address_bytes, all_bytes, file_bytes = _in_memory()
    return MemoryUse(
        all_bytes=all_bytes,
        file_bytes=file_bytes,
        address_bytes=address_bytes,
        allocated_bytes=allocated_bytes,
        heap_bytes=heap_bytes,
    )


def private_bytes() -> int:
    """Memory of this process that is no file's."""
    _, all_bytes, file_bytes = _in_memory()
    return all_bytes - file_bytes


def data_bytes() -> int:
    """What the system holds against a limit on data, in memory or not."""
    return int(os.pread(_statm, _PROC_BYTES, 0).split()[5]) * _PAGE_BYTES


def peak_bytes() -> int:
    """The most that was ever in memory, since the kernel was last told to forget it."""
    return _told(_PEAK)


def mapped_bytes(directory: Path) -> int:
    """How much of the files below `directory` is mapped here; some milliseconds."""
    inside, total = os.fsencode(f" {directory.resolve()}/"), 0
    for line in Path("/proc/self/maps").read_bytes().splitlines():
        if inside in line:
            start, _, end = line.split(maxsplit=1)[0].partition(b"-")
            total += int(end, 16) - int(start, 16)
    return total


def give_back(generation: int = ALL) -> int:
    """Collects garbage and trims the heap; without the trim glibc keeps all of it.

    Returns how many objects were garbage.
    """
    garbage = gc.collect(generation)
    trim()
    return garbage


def trim() -> None:
    """Trims the heap: what was freed goes back to the system."""
    if _trim is not None:
        _trim_this_arena()
        _trim(0)


def trimmed_bytes(most_bytes: int) -> int:
    """Trims the heap, and collects garbage if more than that is private still; what is then."""
    trim()
    left_bytes = private_bytes()
    if left_bytes > most_bytes:
        give_back()  # what refers to itself, too
        left_bytes = private_bytes()
    return left_bytes


def in_passing(work: Callable[[str], None], names: Iterable[str]) -> None:
    """Does `work` on each name in a thread of its own, and waits until that has gone.

    What malloc keeps at hand for a thread is given up when the thread itself ends, which is a
    little later than Python says that it has.
    """

    def work_on_all() -> None:
        for name in names:
            work(name)

    thread = threading.Thread(target=work_on_all, name="drop", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # a model here has used up what threads there may be
        work_on_all()
        return
    thread.join()
    task = f"/proc/self/task/{thread.native_id}"
    until = time.monotonic() + _PASSING_SECONDS
    while os.path.exists(task) and time.monotonic() < until:  # noqa: PTH110 - some microseconds
        time.sleep(_LOOK_SECONDS)


def keep_heaps_small() -> None:
    """Large blocks come from the system, and go back to it when they are freed.

    Left alone, glibc raises the size from which they do to whatever was freed last, up to 32 MB, so
    that one model's weights come to lie in the heap between those of others.
    """
    if _trim is not None:
        _libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        _libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _in_memory() -> tuple[int, int, int]:
    """Bytes mapped; of these in memory; of these of files."""
    mapped, resident, shared = map(int, os.pread(_statm, _PROC_BYTES, 0).split()[:3])
    file_bytes = shared * _PAGE_BYTES - _told(_SHARED)  # which passes for a file's there
    return mapped * _PAGE_BYTES, resident * _PAGE_BYTES, file_bytes


def _told(name: re.Pattern[bytes]) -> int:
    """A figure of the kernel's in bytes; 0: it does not tell."""
    found = name.search(os.pread(_status, _PROC_BYTES, 0))
    return 1024 * int(found[1]) if found else 0


def _trim_this_arena() -> None:
    """Gives back the end of this thread's heap, which `malloc_trim` does for the first heap only.

    The end is looked at when a block of some size is freed there.
    """
    _quick.mallopt(_M_TRIM_THRESHOLD, 0)
    _quick.free(ctypes.c_void_p(_quick.malloc(ctypes.c_size_t(_LOOKED_AT_BYTES))))
    _quick.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def die_with_parent() -> None:
    """Asks the kernel to kill this process when the server's thread that started it ends."""
    pr_set_pdeathsig, sigkill = 1, 9
    _libc.prctl(pr_set_pdeathsig, sigkill, 0, 0, 0)
