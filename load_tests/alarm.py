"""Wakes an event loop at a moment to some 50 microseconds: a Linux timerfd.

Decision: the loop's own timers are good to a millisecond, more than a whole answer takes, and would
be counted as the server's latency. Rejected: spinning, which takes a core from the server; Python
has `os.timerfd_create` from 3.13 on, which replaces this file then.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_NANOSECONDS = 1_000_000_000

_libc = ctypes.CDLL(None, use_errno=True)


class _Times(ctypes.Structure):  # struct itimerspec
    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Alarm:
    """Calls `ring` in the running loop at each moment that it is set to, the last one counting."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._file = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._file, self._woken)

    def set(self, moment: float) -> None:
        """Rings at `moment` by `time.monotonic`, at once where that has passed."""
        nanoseconds = max(int(moment * _NANOSECONDS), 1)  # zero would switch it off
        times = _Times(0, 0, *divmod(nanoseconds, _NANOSECONDS))
        if _libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(times), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Never rings again."""
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _woken(self) -> None:
        os.read(self._file, 8)
        self._ring()
