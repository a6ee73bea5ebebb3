"""What one load takes: at the end, at its peak, and in mapped files.

Decisions: the peak comes from the kernel, which keeps the highest resident size and forgets it when
told to (/proc/self/clear_refs); where that may not be written, a thread looks every few
milliseconds. Predictions that run meanwhile count with it: a reservation rather too large.
A model that is a few large blocks knows what it takes. While a framework's models are such, malloc
is not asked: its looks at all its holes take as long as a tenth of the load, and garbage is left to
be given back once the server has its answer. Should the next model not be such a one, its own guess
counts or what the process has grown by, whichever is more.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import msgspec

from mme.workers import memory

_FORGET_PEAK = b"5"
_LOOK_SECONDS = 0.005
_KNOWN_LIMIT = 10_000
_MAPPED_BYTES = 1024**2  # less is not worth the milliseconds that looking takes


def _open_clear_refs() -> int:
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return -1  # to which nothing can be written, either


_clear_refs = _open_clear_refs()


class Taken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a load has taken."""

    resident_bytes: int  # private, for as long as the model stays
    peak_bytes: int  # private, while it was loaded; never less than `resident_bytes`
    file_bytes: int  # of the model's own files, mapped: page cache
    grown_bytes: int  # by which the process is larger; less if the model filled what others left


class LoadWatch:
    """Measures from its making, or from `begin`, until `read`; one at a time in a process.

    Args:
        directory: where the model's files are.
        knows: whether the model will know what it takes, as far as can be told.
    """

    def __init__(self, directory: Path, *, knows: bool = False) -> None:
        self._directory, self._knows = directory, knows
        self._sampler = None if _forget_peak() else _Sampler()
        self._before = memory.measure(memory.NO_MALLOC if knows else None)
        self.began = time.perf_counter()

    def begin(self) -> None:
        """Begins anew: what was taken up to now is not the model's."""
        if self._sampler is None:
            _forget_peak()
        else:
            self._sampler.peak_bytes = 0
        self._before, self._knows = memory.measure(), False
        self.began = time.perf_counter()

    def read(self, estimated_bytes: int = 0, *, is_exact: bool = False) -> Taken:
        """Ends the watch.

        Args:
            estimated_bytes: the model's own guess. It counts where less than half of it was found:
                a heap that stood empty, and is not malloc's, has taken it in.
            is_exact: it is no guess.
        """
        before = self._before
        measure = memory.measure if self._knows else memory.measure_without_garbage
        after = measure(before)
        self.close()
        grown_bytes = estimated_bytes if is_exact else after.grown_since(before)
        if self._knows and not is_exact:
            grown_bytes = max(estimated_bytes, after.private_bytes - before.private_bytes)
        mapped_bytes = self._mapped_bytes(after)
        estimated_bytes -= mapped_bytes
        resident_bytes = estimated_bytes if grown_bytes < estimated_bytes / 2 else grown_bytes
        resident_bytes += memory.OBJECTS_BYTES
        peak_bytes = memory.peak_bytes() if self._sampler is None else self._sampler.peak_bytes
        files_bytes = max(0, after.file_bytes - before.file_bytes)  # weights, and code
        return Taken(
            resident_bytes=resident_bytes,
            peak_bytes=max(resident_bytes, peak_bytes - before.all_bytes - files_bytes),
            file_bytes=mapped_bytes,
            grown_bytes=after.private_bytes - before.private_bytes,
        )

    def close(self) -> None:
        """Ends the watch of a load that failed."""
        if self._sampler is not None:
            self._sampler.stop()

    def _mapped_bytes(self, after: memory.MemoryUse) -> int:
        if after.address_bytes - self._before.address_bytes < _MAPPED_BYTES:
            return 0
        return memory.mapped_bytes(self._directory)


class KnownLoad:
    """Stands in for a watch where the same content was measured here before.

    That is, the second time: the first had what caches took on for good. Most of what a watch costs
    is malloc's look at every hole in its heaps, twice.

    Args:
        known: what was measured.
    """

    def __init__(self, known: Taken) -> None:
        self._known = known
        self.begin()

    def begin(self) -> None:
        """As LoadWatch."""
        self.began = time.perf_counter()
        self._before_bytes = memory.private_bytes()

    def read(self, _: int = 0, *, is_exact: bool = False) -> Taken:
        """What was measured, but for what the process has grown by this time."""
        grown_bytes = memory.private_bytes() - self._before_bytes
        return msgspec.structs.replace(self._known, grown_bytes=grown_bytes)

    def close(self) -> None:
        """As LoadWatch."""


class Watches:
    """Begins watches, and remembers what they saw."""

    def __init__(self) -> None:
        self._known: dict[str, Taken | None] = {}  # by content; None: seen once
        self._exact = ""  # the framework whose model was the last one, and knew what it took

    def begin(self, directory: str, content: str) -> LoadWatch | KnownLoad:
        """A watch of a load, before any look into `directory`: the model fills what that leaves."""
        if (known := self._known.get(content)) is not None:
            return KnownLoad(known)
        return LoadWatch(Path(directory), knows=bool(self._exact))

    def expects(self, framework: str) -> bool:
        """Whether a watch that was begun may count on it that the model is of this framework."""
        return self._exact in ("", framework)

    def keep(self, content: str, taken: Taken, framework: str, *, is_exact: bool) -> None:
        """Remembers what content took the second time, unless it has no name."""
        self._exact = framework if is_exact else ""
        if content:
            self._known[content] = taken if content in self._known else None
            if len(self._known) > _KNOWN_LIMIT:
                del self._known[next(iter(self._known))]


class _Sampler:
    """Looks at the resident size again and again."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="peak", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            self.peak_bytes = max(self.peak_bytes, memory.measure().all_bytes)


def _forget_peak() -> bool:
    with contextlib.suppress(OSError):
        os.pwrite(_clear_refs, _FORGET_PEAK, 0)
        return True
    return False
